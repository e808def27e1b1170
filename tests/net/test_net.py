"""Every answer of the program is what it was recorded to be. A change that is meant is recorded anew:
`make record-answers`, which prints what changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import httpx
import pytest

from app.cli import main
from app.prompt import story
from tests.net import questions, recording
from tests.net.answers import comparable, differences


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("net")
    with recording.served(folder) as found:
        yield found


def test_every_answer_is_what_was_recorded(address: str) -> None:
    assert recording.report(recording.read(), recording.recorded(address)) == []


def test_the_shipped_story_is_what_is_computed(address: str) -> None:
    shipped, now = json.loads(story.FILE.read_bytes()), httpx.get(f"{address}/api/v1/models/demo/story", timeout=600)
    assert shipped["provenance"]["weights_sha256"] == now.json()["provenance"]["weights_sha256"]
    assert differences({**shipped, "provenance": None}, {**now.json(), "provenance": None}) == []


def test_every_path_of_the_api_is_asked_or_left_out_for_a_reason(address: str) -> None:
    document = httpx.get(f"{address}/api/v1/openapi.json", timeout=600).json()
    operations = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    calls = [*questions.of_model("demo"), *questions.of_server(questions.SWEEP)]
    asked = {f"{call.method} {call.template}" for call in calls}
    left = {name for name in operations - asked if not _is_left_out(name)}
    assert left == set()
    assert asked - operations == set()


def _is_left_out(operation: str) -> bool:
    method, path = operation.split()
    writes = path.removeprefix("/api/v1").startswith((*questions.WRITING, "/sweeps")) and method != "GET"
    of_one = path.removeprefix("/api/v1").startswith(questions.WRITING)
    return operation in questions.LEFT_OUT_PATHS or path in questions.LEFT_OUT_PATHS or writes or of_one


def test_every_command_is_typed_or_left_out_for_a_reason() -> None:
    typed = {words[0] for words in questions.COMMANDS.values()}
    assert typed | set(questions.LEFT_OUT) == set(main.list_commands(click.Context(main)))


def test_the_net_would_catch_a_change() -> None:
    then = comparable({"rows": [{"d": 0.25, "name": "3.1"}], "many": [0.5] * 100, "provenance": 1})
    assert differences(then, comparable({"rows": [{"d": 0.25001, "name": "3.1"}], "many": [0.5] * 100})) == []
    for other in (
        {"rows": [{"d": 0.2501, "name": "3.1"}], "many": [0.5] * 100},
        {"rows": [{"d": 0.25, "name": "3.2"}], "many": [0.5] * 100},
        {"rows": [{"d": None, "name": "3.1"}], "many": [0.5] * 100},
        {"rows": [{"name": "3.1"}], "many": [0.5] * 100},
        {"rows": [], "many": [0.5] * 100},
        {"rows": [{"d": 0.25, "name": "3.1"}], "many": [0.5] * 99 + [0.6]},
    ):
        assert len(differences(then, comparable(other))) >= 1
    assert differences("H 0.25001 nats", "H 0.25002 nats") == []
    assert differences("H 0.25 nats", "H 0.26 nats") != []
    assert differences(" 3.1  0.02 of +1.2e-09", " 3.1     0.019999 of -7e-10") == []
    assert differences("3.1 falls by 0.02", "3.1 rises by 0.02") != []
    assert differences("3.1 falls by 0", "3.1 falls by -4.7e-07") == []
    assert differences("3.1 falls by 0", "3.1 falls by 0.1") != []
    assert differences("rank 10000", "rank 10001") != []
