"""The command line shows the API's own numbers, and says what is wrong in one sentence with exit code 2."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner, Result
from starlette.testclient import TestClient

from app.cli import main
from app.command_list import COMMANDS
from app.core.settings import Settings
from app.core.shell.output import cell
from app.main import create_app
from tests import tiny
from tests.app.served import PATIENCE, is_ready, until_it_answers

IDS = tiny.token_ids(8)
TOKENS = ",".join(map(str, IDS))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NULLSCOPE_DATA_DIR", str(tmp_path))


@pytest.fixture(scope="module")
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server on a free port, in a thread."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"), models=(str(model_folder),), device="cpu", effects_backend="eager"
    )
    app = create_app(settings)
    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    for entry in app.state.host.entries.values():
        entry.means_settled.wait()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    running.should_exit = True
    thread.join()


def nullscope(*args: str, code: int = 0, **more: Any) -> Result:
    result = CliRunner().invoke(main, args, **more)
    assert result.exit_code == code, result.output
    return result


def sentence(*args: str) -> str:
    """The one line that a refusal prints."""
    result = nullscope(*args, code=2)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    return lines[0]


def test_the_same_numbers_in_process_over_http_and_from_the_api(
    server: str, client: TestClient, model_folder: Path
) -> None:
    asked = {
        "trace": (["-i", "0.3:value=1.5@2-4", "-i", "1.4:zero", "-n", "1.4", "--top-k", "2"], {
            "interventions": [
                {"neuron": "0.3", "mode": "value", "value": 1.5, "positions": {"start": 2, "stop": 5}},
                {"neuron": "1.4", "mode": "zero"},
            ],
            "neurons": ["1.4"],
            "top_k": 2,
        }),
        "effects": (["-p", "3", "--sort", "d_loss.direct", "--min", "activation=0", "--limit", "7"], {
            "position": 3, "sort": "d_loss.direct", "min_activation": 0.0, "limit": 7,
        }),
    }  # fmt: skip
    for command, (flags, body) in asked.items():
        api = client.post(f"/api/v1/models/tiny-gpt2/{command}", json={"token_ids": IDS, **body}).json()
        args = [command, "--token-ids", TOKENS, "--json", *flags]
        over_http = json.loads(nullscope(*args, "--url", server).stdout)
        in_process = json.loads(nullscope(*args, "--model", str(model_folder)).stdout)
        assert over_http == api
        assert in_process == api


def test_tables_show_the_same_rows(server: str) -> None:
    table = nullscope("trace", "--token-ids", TOKENS, "--url", server, "-i", "1.4:zero").stdout.splitlines()
    answer = json.loads(nullscope("trace", "--token-ids", TOKENS, "--url", server, "--json").stdout)
    assert table[0].split()[:3] == ["pos", "token", "entropy"]
    assert len(table) == 1 + len(IDS) + 1
    for line, entropy in zip(table[1:-1], answer["clean"]["entropy"], strict=True):
        assert f"{entropy:.5g}" in line
    effects = nullscope("effects", "--token-ids", TOKENS, "--url", server, "--baseline", "0.5", "--limit", "3").stdout
    assert len(effects.splitlines()) == 1 + 3 + 1
    assert "value 0.5" in effects


def test_text_can_come_from_standard_input(server: str) -> None:
    answer = nullscope("trace", "-", "--url", server, "--json", input="two\nlines")
    assert "".join(token["text"] for token in json.loads(answer.stdout)["tokens"]) == "two\nlines"


def test_check_exits_with_the_verdict(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "holds" in nullscope("check", "--url", server).stdout
    assert json.loads(nullscope("check", "--url", server, "--json").stdout)["holds"] is True
    monkeypatch.setattr("analysis.selfcheck._TOLERANCE_FACTOR", 0.0)
    assert "DOES NOT HOLD" in nullscope("check", "--url", server, code=1).stdout


def test_models_lists_what_is_here_without_loading(server: str, model_folder: Path) -> None:
    rows = {row["key"]: row for row in json.loads(nullscope("models", "--json", str(model_folder)).stdout)["models"]}
    assert rows["demo"]["state"] == rows["tiny-gpt2"]["state"] == "available"
    assert rows["gpt2"]["state"] == "absent"
    assert rows["gpt2"]["bytes_on_disk"] is None
    assert rows["gpt2"]["bytes_needed"] > 4 * 124e6
    assert rows["tiny-gpt2"]["n_layers"] == 2
    assert not any(row["loaded"] for row in rows.values())
    (served,) = json.loads(nullscope("models", "--json", "--url", server).stdout)["models"]
    assert served["loaded"]
    same = ("d_model", "n_layers", "n_heads", "d_mlp", "d_vocab", "n_ctx", "norm", "bytes_needed", "architecture")
    assert [served[name] for name in same] == [rows["tiny-gpt2"][name] for name in same]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["trace", ""], ["empty"]),
        (["trace"], ["text"]),
        (["trace", "a", "--token-ids", "1,2"], ["one of", "turns"]),
        (["trace", "a", "--token-ids", "one"], ["--token-ids"]),
        (["trace", "a", "--model", "nope"], ["nope", "gpt2", "demo"]),
        (["trace", "a", "--model", "./nope"], ["nope", "config.json"]),
        (["trace", "a", "-i", "3"], ["intervention"]),
        (["trace", "a", "-i", "3.1:value"], ["value"]),
        (["trace", "a", "-i", "3.1:value=x"], ["number"]),
        (["trace", "a", "-i", "3.1:clip=1"], ["number"]),
        (["trace", "a", "--url", "http://127.0.0.1:1"], ["127.0.0.1:1"]),
        (["trace", "a", "--url", "nonsense"], ["nonsense"]),
        (["effects", "a", "--sort", "nope"], ["nope", "d_entropy.total"]),
        (["effects", "a", "--baseline", "median"], ["baseline"]),
        (["effects", "a", "--min", "activation=x"], ["activation"]),
        (["models", "--accept", "demo"], ["local"]),
        (["serve", "--model", "nope", "--port", "0"], ["nope"]),
        (["serve", "--device", "nonsense", "--port", "0"], ["nonsense", "cpu"]),
        (["serve", "--data-dir", "/proc/nowhere", "--port", "0"], ["/proc/nowhere", "NULLSCOPE_DATA_DIR"]),
        (["serve", "--host", "203.0.113.9", "--port", "0"], ["203.0.113.9"]),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(args: list[str], words: list[str]) -> None:
    said = sentence(*args)
    assert all(word in said for word in words), said


def test_refusals_of_a_server_read_the_same(server: str) -> None:
    assert "no neuron 9.1" in sentence("trace", "a", "-n", "9.1", "--url", server)
    assert "nope" in sentence("trace", "a", "--model", "nope", "--url", server)


def test_a_port_that_is_taken_is_said_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = sentence("serve", "--port", str(port))
        assert f"Port {port}" in said
        assert "taken" in said
        assert "make serve PORT=" in said  # whoever came by make has no nullscope on the path


def test_interventions_are_written_as_documented() -> None:
    from app.core.grammar import read_intervention

    assert read_intervention("3.17") == {"neuron": "3.17", "mode": "mean"}
    assert read_intervention("3.17:scale=-0.5@1,4") == {
        "neuron": "3.17", "mode": "scale", "value": -0.5, "positions": [1, 4]
    }  # fmt: skip
    assert read_intervention("3.17:zero@2-4")["positions"] == {"start": 2, "stop": 5}
    assert read_intervention("3.17:zero@1,3-5")["positions"] == [1, 3, 4, 5]
    assert read_intervention("3.17:clip=..1") == {"neuron": "3.17", "mode": "clip", "max": 1.0}
    assert read_intervention("3.17:clip=-1..") == {"neuron": "3.17", "mode": "clip", "min": -1.0}


def test_text_cannot_steer_a_terminal() -> None:
    assert cell("\x1b[2J\u202e\x00") == "\\x1b[2J\\u202e\\x00"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_says_what_a_command_does(command: str) -> None:
    assert "Usage" in nullscope(*filter(None, [command]), "--help").output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom app.cli import main\n"
        "for name in main.list_commands(None): assert CliRunner().invoke(main, [name, '--help']).exit_code == 0, name\n"
        "heavy = {'torch', 'fastapi', 'transformers', 'numpy', 'sqlalchemy', 'plotly'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_serve_answers_until_it_is_told_to_stop(model_folder: Path, tmp_path: Path) -> None:
    """The real process, as it is without a setting: address printed, page answering, a clean end on SIGTERM."""
    import httpx

    command = [
        sys.executable,
        "-m",
        "app",
        "serve",
        "--port",
        "0",
        "--model",
        str(model_folder),
        "--data-dir",
        str(tmp_path),
    ]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("NULLSCOPE_")}
    with subprocess.Popen(command, env=plain, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = next(word for word in line.split() if word.startswith("http://127.0.0.1:"))
            assert httpx.get(f"{url}/healthz", timeout=PATIENCE).json() == {"status": "ok"}
            with httpx.Client(base_url=url, timeout=PATIENCE) as client:
                until_it_answers(client, "/readyz", process, is_ready)
            refused = httpx.get(f"{url}/healthz", headers={"host": "evil.example"}, timeout=PATIENCE)
            assert refused.status_code == 403  # a loopback server answers to loopback names only
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, -15), errors
    assert "Traceback" not in errors
