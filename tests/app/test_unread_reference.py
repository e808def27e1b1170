"""A text that the tokenizer cannot read gives no mean: refused with the remedy, which works."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from analysis import reference
from analysis.model import Model, from_objects
from analysis.registry import ModelSpec
from analysis.store import RunFolder
from analysis.sweep import SweepConfig
from analysis.sweep.run import start
from analysis.types import InputError
from analysis.unread import MOST_UNKNOWN
from app.core.settings import Settings
from app.sweep.estimate import probe_rows
from tests import tiny

UNKNOWN = 3
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letters() -> PreTrainedTokenizerFast:
    """One token a small letter; everything else is unknown."""
    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": UNKNOWN} | {letter: 4 + i for i, letter in enumerate(LETTERS)}
    backend = Tokenizer(models.WordLevel(vocab=vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(scope="module")
def model() -> Model:
    return from_objects(
        ModelSpec("letters", prepend_bos=True), tiny.hf_model("gpt2"), letters(), weights_sha256="0" * 64
    )


@pytest.mark.parametrize(
    ("text", "share"), [("abc" * 10, 0), ("ABC" * 10, 1), ("aB" * 15, 0.5), ("a" * 29 + "9", 1 / 30)]
)
def test_the_share_of_unknown_tokens_is_told_or_refused(model: Model, text: str, share: float, tmp_path: Path) -> None:
    rows = [model.encode(text, prepend_bos=False)]
    assert reference.unknown_share(model, rows) == pytest.approx(share)
    if share > MOST_UNKNOWN:
        with pytest.raises(InputError, match=f"{share:.0%} of the tokens of x.txt are unknown") as caught:
            list(reference.compute(model, rows, source="x.txt"))
        assert caught.value.code == "unreadable_reference"
        assert caught.value.hint == "Name a text that it can read: --reference letters=FILE."
        return
    *_, last = reference.compute(model, rows, source="x.txt")
    assert last.result is not None
    reference.save(last.result, tmp_path / "kept.safetensors")
    assert reference.load(tmp_path / "kept.safetensors").unknown == pytest.approx(share)


def test_a_sweep_over_it_is_refused_before_and_at_its_start(model: Model, tmp_path: Path) -> None:
    config = SweepConfig(length=24)
    resident: Any = SimpleNamespace(model=model, computes=lambda: None)
    with pytest.raises(InputError, match="of the tokens of this text are unknown"):
        probe_rows(resident, config, ["abcdefABC" * 6])
    assert probe_rows(resident, config, ["abc" * 10])[0]
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(InputError, match="are unknown to the tokenizer of letters"):
        list(start(folder, model, None, config, ["abcdefABC" * 6], "capitals"))
    assert not folder.path.exists()
    list(start(folder, model, None, config, ["abc" * 10], "letters"))
    assert folder.path.exists()


def test_a_byte_level_tokenizer_reads_everything(tiny_gpt2: Model) -> None:
    assert reference.unknown_share(tiny_gpt2, [tiny_gpt2.encode("ABC \N{SNOWMAN}")]) == 0


@pytest.fixture
def tiny_gpt2() -> Model:
    return tiny.model("gpt2")


def test_the_remedy_is_named_and_works(
    make_client: Callable[..., TestClient], model_folder: Path, tmp_path: Path
) -> None:
    """The model's own sample has spaces, capitals and full stops: a third of it is unknown."""
    folder = tmp_path / "letters"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "sample.jsonl"):
        shutil.copy(model_folder / name, folder)
    letters().save_pretrained(folder)
    client = make_client(models=(str(folder),))
    row = client.get("/api/v1/models").json()["models"][0]
    assert row["mean"] == "failed"
    assert "are unknown to the tokenizer of letters" in row["mean_error"]
    assert "--reference letters=FILE" in client.get("/models").text
    asked = {"token_ids": [1, 5, 9]}
    refused = client.post("/api/v1/models/letters/effects", json=asked)
    assert refused.status_code == 409
    assert "--reference letters=FILE" in refused.json()["error"]["hint"]
    assert ".." not in refused.json()["error"]["message"]
    text = tmp_path / "read.txt"
    text.write_text("a" * 29 + "9")
    again = make_client(models=(str(folder),), reference=(f"letters={text}", f"other={tmp_path / 'none.txt'}"))
    row = again.get("/api/v1/models").json()["models"][0]
    assert (row["mean"], row["mean_source"]) == ("ready", "read.txt")
    assert 0 < row["mean_unknown"] < MOST_UNKNOWN
    answer = again.post("/api/v1/models/letters/effects", json=asked).json()
    assert "of them unknown to its tokenizer" in answer["provenance"]["baseline"]


@pytest.fixture
def unread(make_client: Callable[..., TestClient], model_folder: Path, tmp_path: Path) -> TestClient:
    """A model of letters whose sample its tokenizer cannot read."""
    folder = tmp_path / "letters"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "sample.jsonl"):
        shutil.copy(model_folder / name, folder)
    letters().save_pretrained(folder)
    return make_client(models=(str(folder),))


def settled(client: TestClient) -> dict[str, Any]:
    client.app.state.host.entries["letters"].means_settled.wait()  # type: ignore[attr-defined]
    row: dict[str, Any] = client.get("/api/v1/models/letters").json()
    return row


def test_a_text_that_is_sent_becomes_the_baseline(unread: TestClient, make_client: Callable[..., TestClient]) -> None:
    """On the page and by the API, after a restart, and no longer once it is forgotten."""
    path, asked = "/api/v1/models/letters/reference", {"token_ids": [1, 5, 9]}
    assert "/models/letters/reference" in unread.get("/models").text
    refused = unread.post("/models/letters/reference", files={"file": ("worse.txt", b"aB" * 20)})
    assert refused.status_code == 422
    assert "50% of the tokens of worse.txt are unknown" in refused.text
    assert "Choose a text that its tokenizer can read" in refused.text
    assert settled(unread)["mean"] == "failed"
    sent = unread.post("/models/letters/reference", files={"file": ("read.txt", b"a" * 29 + b"9")})
    assert sent.status_code == 200
    row = settled(unread)
    assert (row["mean"], row["mean_source"], row["mean_error"]) == ("ready", "read.txt", None)
    assert row["mean_unknown"] == pytest.approx(1 / 30, abs=0.01)
    one = unread.post("/api/v1/models/letters/effects", json=asked).json()
    assert "of read.txt" in one["provenance"]["baseline"]
    assert unread.post(path, params={"name": "other.txt"}, content=b"xyz" * 9).status_code == 202
    assert settled(unread)["mean_source"] == "other.txt"
    assert unread.post("/api/v1/models/letters/effects", json=asked).json()["rows"] != one["rows"]
    folder = unread.app.state.host.entries["letters"].spec.folder  # type: ignore[attr-defined]
    again = make_client(models=(str(folder),))
    assert settled(again)["mean_source"] == "other.txt"
    assert again.delete(path).status_code == 200
    assert settled(again)["mean"] == "failed"
    assert again.post("/api/v1/models/letters/effects", json=asked).status_code == 409


@pytest.mark.parametrize(
    ("name", "content"), [("x.pdf", b"abc"), (".txt", b"abc"), ("x.txt", b""), ("x.jsonl", b"abc"), ("x.txt", b"\xff")]
)
def test_what_is_no_text_is_refused_and_changes_nothing(unread: TestClient, name: str, content: bytes) -> None:
    sent = unread.post("/api/v1/models/letters/reference", params={"name": name}, content=content)
    assert sent.status_code == 422
    assert sent.json()["error"]["hint"] or sent.json()["error"]["code"] == "bad_reference_text"
    assert settled(unread)["mean"] == "failed"


def test_a_text_that_the_operator_names_stands(make_client: Callable[..., TestClient], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("The cat sat.")
    client = make_client(reference=(f"tiny-gpt2={tmp_path / 'mine.txt'}",))
    sent = client.post("/api/v1/models/tiny-gpt2/reference", params={"name": "x.txt"}, content=b"A cat.")
    assert sent.status_code == 409
    assert sent.json()["error"]["code"] == "reference_named"


def test_a_reference_names_its_model() -> None:
    with pytest.raises(ValueError, match="reference"):
        Settings(reference=("file.txt",))
