"""What every command about a prompt has in common: which options it takes, and how it asks and shows."""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from app.commands.door import Refused, opened, refusing
from app.commands.options import model_options
from app.commands.output import print_json

if TYPE_CHECKING:
    from app.requests.core import PromptRequest


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
        return self.body["text"] is not None or "token_ids" in self.body

    def ask(self, question: str, show: Callable[[dict[str, Any]], None], **fields: Any) -> None:
        """Show the API's answer. A bad request is refused before a model is loaded for it."""
        body = self.body | fields
        with refusing():
            _request(question).model_validate(body)
        with opened(self.model, self.url) as door:
            answer = door.model(question, body)
        (print_json if self.as_json else show)(answer)


def prompt_options(function: Callable[..., None]) -> Callable[..., None]:
    """TEXT and the options of a prompt and a model, which reach the command as one `Prompt`."""

    @model_options
    @click.argument("text", required=False)
    @click.option("--token-ids", help="The prompt as token ids, comma-separated, instead of TEXT.")
    @click.option("--bos/--no-bos", "prepend_bos", default=None, help="BOS in front; by default the model's habit.")
    @functools.wraps(function)
    def command(
        text: str | None,
        token_ids: str | None,
        prepend_bos: bool | None,
        model: str | None,
        url: str | None,
        as_json: bool,
        **rest: Any,
    ) -> None:
        function(Prompt(_body(text, token_ids, prepend_bos), model, url, as_json), **rest)

    return command


def _body(text: str | None, token_ids: str | None, prepend_bos: bool | None) -> dict[str, Any]:
    """The prompt's part of a request body. TEXT `-` reads standard input."""
    body: dict[str, Any] = {"text": sys.stdin.read() if text == "-" else text, "prepend_bos": prepend_bos}
    if token_ids is not None:
        try:
            body["token_ids"] = [int(part) for part in token_ids.split(",")]
        except ValueError:
            raise Refused(f"--token-ids must be numbers separated by commas, not {token_ids[:40]!r}.") from None
    return body


def _request(question: str) -> "type[PromptRequest]":
    from app.requests import atlas, core, effects

    requests: dict[str, type[PromptRequest]] = {
        "trace": core.TraceRequest,
        "effects": core.EffectsRequest,
        "heatmap": effects.HeatmapRequest,
        "joint": effects.JointRequest,
        "dose": effects.DoseRequest,
        "ledger": effects.LedgerRequest,
        "walk": atlas.WalkRequest,
        "frequency": atlas.FrequencyRequest,
    }
    return requests.get(question, core.PromptRequest)
