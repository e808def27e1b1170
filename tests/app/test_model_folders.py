"""A model folder that is refused gives one sentence at every door: no traceback, no question, none of its code runs."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, MixtralConfig

from app.cli import main
from app.core.residency.host import ModelHost
from app.core.settings import Settings
from tests import tiny

CODE = """
from pathlib import Path
Path({marker!r}).write_text("ran")
class Config: ...
class Model: ...
class Words: ...
"""


def configure(folder: Path, file: str = "config.json", **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def code_in_config(folder: Path) -> None:
    (folder / "own.py").write_text(CODE.format(marker=str(folder / "ran")))
    configure(folder, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})


def code_in_known_config(folder: Path) -> None:
    code_in_config(folder)
    configure(folder, model_type="gpt2")


def code_in_tokenizer(folder: Path) -> None:
    (folder / "own.py").write_text(CODE.format(marker=str(folder / "ran")))
    auto_map = {"AutoTokenizer": ["own.Words", None]}
    configure(folder, "tokenizer_config.json", tokenizer_class="Words", auto_map=auto_map)


def code_in_old_tokenizer(folder: Path) -> None:
    code_in_tokenizer(folder)
    configure(folder, "tokenizer_config.json", auto_map=["own.Words", None])


def adapter_beside(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def adapter_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def half_of_it(folder: Path) -> None:
    file = folder / "model.safetensors"
    save_file({f"_orig_mod.{k}": v for k, v in load_file(file).items() if ".h.1." not in k}, file)


def other_vocabulary(folder: Path) -> None:
    configure(folder, vocab_size=300)


def mixture(folder: Path) -> None:
    config = MixtralConfig(
        vocab_size=tiny.D_VOCAB, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, max_position_embeddings=48,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config, trust_remote_code=False).float().save_pretrained(folder)


def no_final_norm(folder: Path) -> None:
    config = tiny.config("opt", do_layer_norm_before=False)
    AutoModelForCausalLM.from_config(config, trust_remote_code=False).float().save_pretrained(folder)


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def no_numbers(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["transformer.ln_f.weight"][:2] = float("nan")
    save_file(tensors, file)


Fault = Callable[[Path], None]
UNREADABLE: dict[Fault, str] = {  # refused by whatever reads the tokenizer, and so by all
    code_in_config: "bad brings code of its own ('auto_map' in config.json)",
    code_in_known_config: "bad brings code of its own ('auto_map' in config.json)",
    code_in_tokenizer: "bad brings code of its own ('auto_map' in tokenizer_config.json)",
    code_in_old_tokenizer: "bad brings code of its own ('auto_map' in tokenizer_config.json)",
    adapter_beside: "bad has an adapter beside its weights",
    adapter_only: "bad holds an adapter only",
    broken_config: "config.json of bad cannot be read",
    broken_tokenizer: "The tokenizer of bad cannot be read",
}
UNUSABLE: dict[Fault, str] = {  # refused by whatever reads the weights
    half_of_it: "12 tensors are missing (transformer.h.1.attn.c_attn.bias, ",
    other_vocabulary: "transformer.wte.weight is 264 x 24 in the file and 300 x 24 by config.json",
    mixture: "is a mixture of experts",
    cut_short: "model.safetensors is cut off: ",
    no_numbers: "no numbers (NaN or infinite): transformer.ln_f.weight has 2 of them.",
    no_final_norm: "has no norm between its last layer and its unembedding",
}
EVERY = UNREADABLE | UNUSABLE
COMMANDS = {
    "check": ("check", "{folder}"),
    "trace": ("trace", "--model", "{folder}", "The cat"),
    "sweep run": ("sweep", "run", "{out}", "--model", "{folder}", "--rows", "2", "--length", "24"),
    "sweep estimate": ("sweep", "estimate", "--model", "{folder}", "--rows", "2", "--length", "24"),
    "sweep resume": ("sweep", "resume", "{out}", "--model", "{folder}"),
    "count": ("count", "{folder}/sample.jsonl", "--model", "{folder}"),
}


@pytest.fixture
def bad(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole folder, to be spoilt. Whoever asks a person anything fails the test."""
    monkeypatch.setenv("NULLSCOPE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    return Path(shutil.copytree(model_folder, tmp_path / "bad"))


def filled(command: str, folder: Path) -> list[str]:
    return [part.format(folder=folder, out=folder.parent / "out") for part in COMMANDS[command]]


def one_sentence(stderr: str, said: str) -> None:
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("Error: ")
    assert said in lines[0]


def by_command() -> list[Any]:
    """Three commands with every fault; the others read folders as these do, and show it with two."""
    faults = {"check": EVERY, "sweep run": EVERY, "count": UNREADABLE}
    pairs = [(command, fault) for command in COMMANDS for fault in faults.get(command, (code_in_tokenizer, half_of_it))]
    return [pytest.param(*pair, id=f"{pair[0]}: {pair[1].__name__}") for pair in pairs]


@pytest.mark.parametrize(("command", "fault"), by_command())
def test_a_command_refuses_in_one_sentence(command: str, fault: Fault, bad: Path) -> None:
    fault(bad)
    result: Result = CliRunner().invoke(main, filled(command, bad), input="y\ny\n")
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    one_sentence(result.stderr, EVERY[fault])
    assert not (bad / "ran").exists()


@pytest.mark.parametrize("fault", [fault for fault in EVERY if fault is not adapter_only], ids=lambda f: f.__name__)
def test_a_server_keeps_the_reason_and_serves_the_rest(
    fault: Fault,
    bad: Path,
    model_folder: Path,
    make_settings: Callable[..., Settings],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fault(bad)
    host = ModelHost(make_settings(models=(str(bad), str(model_folder))))
    host.start()
    try:
        entry = host.wait("bad")
        assert entry.state == "failed"
        assert EVERY[fault] in (entry.error or "")
        assert "\n" not in (entry.error or "")
        assert str(bad) not in (entry.error or ""), "paths are the operator's business"
        assert host.wait("tiny-gpt2").state == "loaded"
    finally:
        host.close()
    assert [record.exc_info for record in caplog.records if record.levelno >= logging.WARNING] == [None]
    assert not (bad / "ran").exists()


def test_a_server_of_an_adapter_alone_does_not_start(bad: Path) -> None:
    adapter_only(bad)
    result = CliRunner().invoke(main, ["serve", "--port", "0", "--model", str(bad)])
    assert result.exit_code == 2
    one_sentence(result.stderr, EVERY[adapter_only])


@pytest.mark.parametrize("fault", [code_in_config, adapter_beside, broken_config], ids=lambda f: f.__name__)
def test_the_list_of_models_and_the_doctor_say_it_too(fault: Fault, bad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(bad)
    listed = CliRunner().invoke(main, ["models", str(bad), "--json"], catch_exceptions=False)
    row = next(row for row in json.loads(listed.stdout)["models"] if row["key"] == "bad")
    assert row["state"] == "failed"
    assert EVERY[fault] in row["error"]
    monkeypatch.setenv("NULLSCOPE_MODELS", json.dumps([str(bad)]))
    found = CliRunner().invoke(main, ["doctor"], catch_exceptions=False)
    assert found.exit_code == 1
    assert EVERY[fault] in found.stdout


def test_a_terminal_sees_that_sentence_and_nothing_else(bad: Path) -> None:
    code_in_tokenizer(bad)
    shell = [sys.executable, "-m", "app", *filled("check", bad)]
    done = subprocess.run(shell, input="y\n", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    one_sentence(done.stderr, EVERY[code_in_tokenizer])
    assert not (bad / "ran").exists()
