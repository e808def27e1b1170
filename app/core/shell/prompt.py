"""What every command about a prompt has in common: which options it takes, and how it asks and shows."""

import functools
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from app.core.question import Question
from app.core.shell.options import model_options
from app.core.shell.output import print_json
from app.core.shell.session import Refused, opened, refusing


@dataclass(frozen=True)
class Prompt:
    """A prompt as given in the shell, and where to ask about it."""

    body: dict[str, Any]
    model: str | None
    url: str | None
    as_json: bool

    @property
    def given(self) -> bool:
        """Whether there is one: `frequency` also answers without."""
        return self.body["text"] is not None or not {"token_ids", "turns"}.isdisjoint(self.body)

    def ask(self, question: Question, show: Callable[[dict[str, Any]], None], *, path: str = "", **fields: Any) -> None:
        """Show the answer. A bad request is refused before a model is loaded. path: in place of the question's."""
        body = self.body | fields
        with refusing():
            question.request.model_validate(body)
        with opened(self.model, self.url) as door:
            answer = door.model(path or question.path or "", body)
        (print_json if self.as_json else show)(answer)


OF_PROMPT = frozenset({"text", "token_ids", "turns", "prepend_bos"})
_TURN = "A turn of a conversation, as the model's chat template writes it, instead of TEXT; repeatable."


def prompt_parameters() -> list[click.Parameter]:
    """TEXT and the options of a prompt, for a command that is made."""
    return [
        click.Argument(["text"], required=False),
        click.Option(["--token-ids"], help="The prompt as token ids, comma-separated, instead of TEXT."),
        click.Option(["--turn", "turns"], multiple=True, metavar="ROLE:TEXT", help=_TURN),
        click.Option(["--bos/--no-bos", "prepend_bos"], default=None, help="BOS in front; else the model's habit."),
    ]


def prompt_options(function: Callable[..., None]) -> Callable[..., None]:
    """TEXT and the options of a prompt and a model, which reach the command as one `Prompt`."""

    @model_options
    @click.argument("text", required=False)
    @click.option("--token-ids", help="The prompt as token ids, comma-separated, instead of TEXT.")
    @click.option("--turn", "turns", multiple=True, metavar="ROLE:TEXT", help=_TURN)
    @click.option("--bos/--no-bos", "prepend_bos", default=None, help="BOS in front; by default the model's habit.")
    @functools.wraps(function)
    def command(
        text: str | None,
        token_ids: str | None,
        turns: tuple[str, ...],
        prepend_bos: bool | None,
        model: str | None,
        url: str | None,
        as_json: bool,
        **rest: Any,
    ) -> None:
        function(Prompt(prompt_body(text, token_ids, turns, prepend_bos), model, url, as_json), **rest)

    return command


def prompt_body(
    text: str | None, token_ids: str | None, turns: Sequence[str], prepend_bos: bool | None
) -> dict[str, Any]:
    """The prompt's part of a request body. TEXT `-` reads standard input."""
    body: dict[str, Any] = {"text": sys.stdin.read() if text == "-" else text, "prepend_bos": prepend_bos}
    if turns:
        body["turns"] = list(turns)
    if token_ids is not None:
        ids = [part.strip() for part in token_ids.split(",")]
        if not all(re.fullmatch("[0-9]{1,9}", part) for part in ids):
            raise Refused(f"--token-ids must be whole numbers separated by commas, not {token_ids[:40]!r}.")
        body["token_ids"] = list(map(int, ids))
    return body
