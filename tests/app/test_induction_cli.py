"""`nullscope induction` asks the API the right question and prints its numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from app.cli import main
from app.commands import induction as command
from app.commands.output import cell

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
    assert "2 norm-matched random sets" in printed
    scores = client.post(f"{URL}/heads", json={}).json()["rows"]
    best = max(scores, key=lambda row: row["induction"])
    assert nullscope("--heads").splitlines()[1].split()[:2] == [best["head"], cell(best["induction"])]
    assert "parts sum to the pre-activation of 1.4" in nullscope(TEXT, "--who", "1.4")
    assert "bos ablation at" in nullscope(TEXT, "--ablate", "0.1", "-n", "1.4")
    assert "0 passages" in nullscope("--natural-repeats")


def test_bad_input_is_one_sentence(nullscope: Any) -> None:
    assert nullscope("--copies", "9", code=2).startswith("Error: ")
    assert nullscope("--who", "nonsense", code=2).startswith("Error: ")
