"""The command `generate`: the text as it comes, whole characters only, shaded on a terminal that wants it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner

from app.cli import main
from app.core import settings
from app.core.shell import streams
from app.core.shell.session import Refused, _told
from app.generate import shell
from tests import tiny

IDS = ",".join(map(str, tiny.token_ids(5)))
ASKED = ["--token-ids", IDS, "--max-new-tokens", "20", "--temperature", "5", "--seed", "3", "--no-stop-at-eos"]


def view(text: str, entropy: float | None, **more: Any) -> dict[str, Any]:
    steps = [] if entropy is None else [step(text, entropy)]
    return {"text": text, "tokens": steps, "finish_reason": None, "confidence": None, **more}


def step(text: str, entropy: float) -> dict[str, Any]:
    told = {"position": 5, "text": text, "prob": 0.5, "rank": 0, "entropy": entropy, "ln_scale": 1.0}
    return {**told, "activations": {}, "neurons": []}


WHOLE = view("a\nb\x1b!", 4.5, finish_reason="length")
COMING = [view("a", 0.1), view("\nb", 1.5), view("", 0.2), view("\x1b!", None), WHOLE]


def test_it_writes_what_the_api_writes_as_it_comes(model_folder: Any) -> None:
    came = CliRunner().invoke(main, ["generate", *ASKED, "--model", str(model_folder)])
    assert came.exit_code == 0, came.output
    whole = CliRunner().invoke(main, ["generate", *ASKED, "--model", str(model_folder), "--json"])
    told = json.loads(whole.stdout)
    assert came.stdout.startswith(shell._lines(told["text"]) + "\n"), "the same characters, none of them half"
    assert f"{len(told['tokens'])} tokens; ended by length" in came.stdout
    assert f"log-probability {told['confidence']['log_prob']:.4f} nats" in came.stdout
    assert "\x1b" not in came.stdout, "this is no terminal"


def test_a_terminal_shows_the_entropy_and_what_the_shades_mean(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_coloured", lambda: True)
    shell.print_as_written(iter(COMING))
    text, legend, *_ = capsys.readouterr().out.split("\nentropy in nats: ")
    assert text == "a\n\x1b[48;5;221;38;5;16mb\x1b[0m\\x1b!", "an escape of the text itself stays one that is seen"
    assert "\x1b[48;5;221;38;5;16m 1–2 \x1b[0m" in legend


def test_nothing_is_shaded_where_it_is_not_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.no_colour({"NO_COLOR": "1"})
    assert not settings.no_colour({"NO_COLOR": ""})
    assert settings.no_colour({"TERM": "dumb"})
    assert not settings.no_colour({"TERM": "xterm"})
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for name, value in (("TERM", "dumb"), ("NO_COLOR", "1")):
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        assert shell._coloured()
        monkeypatch.setenv(name, value)
        assert not shell._coloured()
    shell.print_as_written(iter(COMING))
    assert capsys.readouterr().out.startswith("a\nb\\x1b!\n")


def test_one_token_is_one_and_a_text_is_taken_up_again(model_folder: Any) -> None:
    words = ["generate", "--token-ids", IDS, "--max-new-tokens", "1", "--model", str(model_folder), "--no-stop-at-eos"]
    told = CliRunner().invoke(main, words)
    assert "\n1 token; ended by length" in told.stdout
    again = CliRunner().invoke(main, [*words, "--written", "5,6", "--written", "7", "--json"])
    assert [step["id"] for step in json.loads(again.stdout)["tokens"]][:3] == [5, 6, 7]
    assert CliRunner().invoke(main, [*words, "--written", "5;6"]).exit_code == 2


def test_the_table_of_dials_says_what_the_twins_are(model_folder: Any) -> None:
    words = ["dial", "--token-ids", IDS, "-d", "1.3:scale=3", "--max-new-tokens", "3", "--model", str(model_folder)]
    table = CliRunner().invoke(main, words).stdout
    told = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    _, _, hotter, random = told["arms"]
    assert f"T = {hotter['temperature']:.4g}" in table
    (text,) = random["texts"]
    assert f"{', '.join(text['neurons'])} × {text['factor']:.4g}" in table


@pytest.mark.parametrize("wrong", [["-n", "9.1"], ["--stop", ""]])
def test_what_cannot_be_asked_is_one_sentence(model_folder: Any, wrong: list[str]) -> None:
    said = CliRunner().invoke(main, ["generate", *ASKED, *wrong, "--model", str(model_folder)])
    assert said.exit_code == 2
    assert said.output.count("Error") == 1


def test_what_goes_wrong_on_the_way_is_said_in_the_end() -> None:
    error = {"error": {"code": "lost", "message": "The worker is gone.", "hint": None}}
    coming: Iterator[str] = iter([json.dumps(COMING[0]), json.dumps(error)])
    views = streams.views(coming, _told)
    assert next(views) == COMING[0]
    with pytest.raises(Refused, match="The worker is gone"):
        next(views)


def test_an_app_that_fails_without_a_word_ends_the_command() -> None:
    import asyncio

    async def app(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        raise RuntimeError("nothing")

    with asyncio.Runner() as runner, pytest.raises(click.ClickException, match="answered 500"):
        list(streams.inside(app, runner, "/api/v1/x", {}, _told))
