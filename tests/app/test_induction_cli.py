"""`nullscope induction` asks the API the right question and prints its numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from app.cli import main
from app.core.shell.output import cell
from app.induction import shell as command

URL = "/api/v1/models/tiny-gpt2"
TEXT = "The cat sat on it."


@pytest.fixture
def nullscope(monkeypatch: pytest.MonkeyPatch, client: TestClient, tmp_path: Path) -> Any:
    """The command line with the module's client as its server."""

    class Door:
        def __enter__(self) -> "Door":
            return self

        def __exit__(self, *problem: object) -> None:
            pass

        def model(self, question: str, body: dict[str, Any]) -> Any:
            response = client.post(f"{URL}/{question}", json=body)
            assert response.status_code == 200, response.text
            return response.json()

    monkeypatch.setattr(command, "opened", lambda model, url: Door())

    def run(*args: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, ["induction", *args])
        assert result.exit_code == code, result.output
        return result.output

    return run


@pytest.mark.parametrize(
    ("args", "question", "body"),
    [
        (["--kind", "random", "--rows", "2", "--seed", "3"], "induction", {"kind": "random", "rows": 2, "seed": 3}),
        ([TEXT, "--corrupt-at", "2", "--corrupt-at", "5"], "induction", {"text": TEXT, "corrupt_at": [2, 5]}),
        (["ab", "--copies", "3", "--separator", "/"], "induction", {"text": "ab", "copies": 3, "separator": "/"}),
        (["--heads", "--pattern", "0.1", "--rows", "2"], "heads", {"pattern": "0.1", "rows": 2}),
        ([TEXT, "--who", "1.4"], "induction/attribution", {"text": TEXT, "neuron": "1.4"}),
        (
            [TEXT, "--ablate", "0.1", "--ablate", "1.2", "-n", "1.4", "--queries", "4", "--random", "1"],
            "induction/ablation",
            {"text": TEXT, "heads": ["0.1", "1.2"], "neurons": ["1.4"], "queries": 4, "random": 1},
        ),
        (
            [TEXT, "--ablate", "0.1", "-n", "1.4", "--mode", "mean", "--random", "0"],
            "induction/ablation",
            {"text": TEXT, "heads": ["0.1"], "neurons": ["1.4"], "mode": "mean", "random": 0},
        ),
        (
            ["--natural-repeats", "--clip", "1.4", "--passages", "3"],
            "induction/natural",
            {"clip": ["1.4"], "passages": 3},
        ),
    ],
)
def test_every_question_is_the_apis(
    nullscope: Any, client: TestClient, args: list[str], question: str, body: dict[str, Any]
) -> None:
    if "text" in body:
        body = {**body, "kind": "text"}
    if question == "induction":
        body = {**body, "limit": 10}
    printed = json.loads(nullscope(*args, "--json"))
    assert printed == client.post(f"{URL}/{question}", json=body).json()


def test_json_is_the_apis(nullscope: Any, client: TestClient) -> None:
    printed = json.loads(nullscope(TEXT, "--clip", "1.4", "--controls", "2", "--limit", "3", "--json"))
    body = {"kind": "text", "text": TEXT, "clip": ["1.4"], "controls": 2, "limit": 3}
    assert printed == client.post(f"{URL}/induction", json=body).json()


def test_tables_hold_the_apis_numbers(nullscope: Any, client: TestClient) -> None:
    found = client.post(f"{URL}/induction", json={"kind": "text", "text": TEXT, "clip": ["1.4"], "controls": 2}).json()
    printed = nullscope(TEXT, "--clip", "1.4", "--controls", "2")
    assert cell(found["halves"]["entropy"]["second"]) in printed
    assert cell(found["ranking"][0]["weighted"]) in printed
    assert cell(found["clip"]["repeat_ratio"]) in printed
    assert "2 sets of random directions" in printed
    scores = client.post(f"{URL}/heads", json={}).json()["rows"]
    best = max(scores, key=lambda row: row["induction"])
    assert nullscope("--heads").splitlines()[1].split()[:2] == [best["head"], cell(best["induction"])]
    assert "parts sum to the pre-activation of 1.4" in nullscope(TEXT, "--who", "1.4")
    curves = nullscope(TEXT, "--clip", "1.4", "--controls", "0", "--curves").splitlines()[-1].split()
    assert curves[:2] == ["36", cell(found["curves"]["entropy"]["mean"][36])]
    pattern = client.post(f"{URL}/heads", json={"pattern": "0.1"}).json()["pattern"]["attention"]
    printed = nullscope("--heads", "--pattern", "0.1")
    assert "head 0.1 on the first row" in printed
    assert cell(max(pattern[-1])) in printed
    assert "bos ablation at" in nullscope(TEXT, "--ablate", "0.1", "-n", "1.4")
    assert "0 passages" in nullscope("--natural-repeats")
    assert "1 passages in 1 rows of your text" in nullscope("abcdef ghi abcdefx", "--natural-repeats")


def test_bad_input_is_one_sentence(nullscope: Any) -> None:
    assert nullscope("--copies", "9", code=2).startswith("Error: ")
    assert nullscope("--who", "nonsense", code=2).startswith("Error: ")
