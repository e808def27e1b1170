"""The effects commands print what the API answers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from app.cli import questions
from app.core.doors import command as made
from app.core.shell.session import ApiSession
from tests import tiny

IDS = tiny.token_ids(9)
TOKENS = ",".join(map(str, IDS))
CASES: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "heatmap": (["--part", "direct", "--limit", "3", "--ln-scale", "median"],
                {"part": "direct", "limit": 3, "ln_scale": "median"}, "d_entropy, direct: 3 of 40 neurons"),
    "trace": (["--ln-scale", "2.5", "--top-k", "1"], {"ln_scale": 2.5, "top_k": 1}, "tiny-gpt2"),
    "effects": (["--ln-scale", "median", "-p", "4", "--limit", "3"],
                {"ln_scale": "median", "position": 4, "limit": 3}, "3 of 40 neurons"),
    "joint": (["-n", "1.3", "-n", "1.9", "-p", "4", "--baseline", "0.5"],
              {"neurons": ["1.3", "1.9"], "position": 4, "baseline": 0.5}, "interaction"),
    "dose": (["-n", "1.3", "--low", "-1", "--high", "1", "--steps", "3"],
             {"neurons": ["1.3"], "low": -1, "high": 1, "steps": 3}, "top token"),
    "ledger": (["-p", "4", "--k", "3", "--limit", "2"],
               {"position": 4, "k": 3, "limit": 2}, "null space of dimension 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_command_is_its_api_call(name: str, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def opened(model: str | None, url: str | None, **context: bool) -> Iterator[ApiSession]:
        yield ApiSession(lambda method, path, body: client.request(method, f"/api/v1{path}", json=body), ("tiny-gpt2",))

    command = made.command_of(questions()[name])
    monkeypatch.setattr(made, "opened", opened)
    flags, body, shown = CASES[name]
    args = ["--token-ids", TOKENS, *flags]
    answer = json.loads(CliRunner().invoke(command, [*args, "--json"], catch_exceptions=False).stdout)
    assert answer == client.post(f"/api/v1/models/tiny-gpt2/{name}", json={"token_ids": IDS, **body}).json()
    table = CliRunner().invoke(command, args, catch_exceptions=False).stdout
    assert shown in table


@pytest.mark.parametrize("name", ["joint", "dose", "ledger", "heatmap"])
def test_a_bad_request_is_refused_before_a_model_is_loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "opened", None)
    flags = {"ledger": ["--limit", "-1"], "heatmap": ["--sort", "size"]}.get(name, ["-n", "not-a-neuron"])
    command = made.command_of(questions()[name])
    refused = CliRunner().invoke(command, ["--token-ids", TOKENS, *flags])
    assert refused.exit_code == 2
    assert "Error: " in refused.output
