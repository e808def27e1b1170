"""The state of the page on which the model writes: one flat form."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from analysis.types import InputError
from app.core.errors import RefusedFieldsError
from app.core.fields import holding
from app.core.interventions import requested
from app.core.request import Number
from app.core.wording import spelled
from app.generate.dial_request import MOST_DIALS, DialRequest
from app.generate.request import GenerateRequest

Mode = Literal["scale", "value"]
ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}


def unescaped(text: str) -> str:
    """What a box of one line cannot hold, as it is typed there: \\n, \\t, and \\\\ for a backslash."""
    return re.sub(r"\\([nt\\])", lambda found: ESCAPES[found[1]], text)


# What somebody writes: shown again as it was written, however wrong.
DIALS = tuple(f"d{number}" for number in range(1, MOST_DIALS + 1))
TYPED = (
    *("text", "n", "temperature", "top_k", "top_p", "seed", "stop", "turned", "watch", "seeds"),
    *(name for dial in DIALS for name in (dial, f"{dial}_mode", f"{dial}_value")),
)
LABELS = {
    "n": "Tokens",
    "max_new_tokens": "Tokens",
    "temperature": "Temperature",
    "top_k": "Top k",
    "top_p": "Top p",
    "seed": "Seed",
    "seeds": "Seeds",
    "stop": "Stop before",
    "turned": "Turned neurons",
    "interventions": "Turned neurons",
    "apply_to": "Turned where",
    "watch": "Watched neurons",
    "neurons": "Watched neurons",
    "text": "Prompt",
}
"""What stands beside the fields, by their names in the form and in the requests."""
DIAL_PARTS = {"neurons": "neurons", "mode": "how it turns them", "value": "value"}


def words(place: tuple[Any, ...], numbers: Sequence[str] = ("1", "2", "3", "4")) -> str:
    """What the page calls a place. numbers: of the dials that have neurons."""
    match place:
        case ("dials", int(at), *inner):
            part = DIAL_PARTS.get(str(inner[0]), "") if inner else ""
            return f"Dial {numbers[at]}" + (f", {part}" if part else "")
        case (str(name), *_) if name in DIALS or name.partition("_")[0] in DIALS:
            part = DIAL_PARTS[name.partition("_")[2] or "neurons"]
            return f"Dial {name[1]}, {part}"
        case (str(name), *_):
            return LABELS.get(name, "")
    return ""


FIRST_TEXT = "The old man shook his head and said that"


class WriteState(BaseModel):
    """Field names are short because they stand in addresses. Numbers arrive as text and may be empty."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    model: str | None = None
    text: str = FIRST_TEXT
    written: str = Field(
        "",
        pattern=spelled(r"^([0-9]{1,9}(,[0-9]{1,9})*)?$", "token ids with commas between, such as 5,17,3"),
        description="Token ids with commas: what is written already, and is gone on with.",
    )
    n: int = Field(40, ge=0, le=2048, description="Tokens to write.")
    temperature: float = Field(0.8, ge=0, le=100)
    top_k: int | None = Field(None, ge=1)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int = Field(0, ge=0, lt=2**63)
    stop: str = Field("", max_length=200, description="A text before which it ends; \\n is the end of a line.")
    turned: str = Field("", max_length=2000, description="Interventions, with spaces between.")
    apply_to: Literal["all", "prompt", "new"] = Field("all", description="Where they hold.")
    watch: str = Field("", max_length=400, description="Neurons whose activations are told, with spaces between.")
    panel: Literal["", "dial", "job", "chat", "shown"] = Field(
        "",
        description="dial: the dials instead of one text; job: later; chat: the form, its text as the template's; "
        "shown: what stands on the page, to be kept, with the code that asks for it.",
    )
    seeds: int = Field(1, ge=1, le=50, description="Texts of each kind beside the dials.")
    d1: str = Field("", max_length=600, description="Neurons of the first dial, with spaces between, or: entropy.")
    d1_mode: Mode = "scale"
    d1_value: Number = 3.0
    d2: str = Field("", max_length=600)
    d2_mode: Mode = "scale"
    d2_value: Number = 3.0
    d3: str = Field("", max_length=600)
    d3_mode: Mode = "scale"
    d3_value: Number = 3.0
    d4: str = Field("", max_length=600)
    d4_mode: Mode = "scale"
    d4_value: Number = 3.0

    @classmethod
    def holding(cls, fields: Mapping[str, Any]) -> tuple[Self, RefusedFieldsError | None]:
        """The state of a form or an address as far as it holds, and why the rest does not."""
        return holding(cls, {name: value for name, value in fields.items() if value != ""}, words)

    def plain(self) -> Self:
        """The same text, as it is first shown."""
        return type(self)(model=self.model, text=self.text, panel="" if self.panel in ("shown", "chat") else self.panel)

    def query(self) -> dict[str, str]:
        """What stands in the address: everything but the text that is not at its default."""
        changed = self.model_dump(exclude={"text", "written", "panel", "watch"}, exclude_defaults=True)
        return {name: str(value) for name, value in changed.items()}

    @property
    def shared(self) -> dict[str, Any]:
        """What both questions ask for."""
        names = ("text", "temperature", "top_k", "top_p", "seed")
        return {"max_new_tokens": self.n, **{name: getattr(self, name) for name in names}}

    def dialled(self) -> DialRequest:
        """InputError for what cannot be."""
        named = [name for name in DIALS if getattr(self, name).strip()]
        if not named:
            raise InputError("No dial has a neuron.", code="no_dial", hint="Name neurons, or write: entropy.")
        dials = [
            {
                "neurons": self._neurons(name),
                "mode": getattr(self, f"{name}_mode"),
                "value": getattr(self, f"{name}_value"),
            }
            for name in named
        ]
        numbers = [name.removeprefix("d") for name in named]
        return requested(DialRequest, partial(words, numbers=numbers), **self.shared, dials=dials, seeds=self.seeds)

    def _neurons(self, dial: str) -> list[str] | str:
        text = str(getattr(self, dial)).replace(",", " ").strip()
        return text if text == "entropy" else text.split()

    def asked(self, *, top_neurons: int) -> GenerateRequest:
        """InputError for what cannot be. top_neurons: how many are named at each token."""
        if self.n < 1 and self.panel != "shown":
            raise RefusedFieldsError("Tokens: so many are written, at least 1.", ("n",))
        return requested(
            GenerateRequest,
            words,
            **self.shared,
            written=self.written.split(",") if self.written else [],
            stop=[unescaped(self.stop)] if self.stop else [],
            interventions=self.turned.split(),
            apply_to=self.apply_to,
            neurons=list(dict.fromkeys(self.watch.replace(",", " ").split())),
            top_neurons=top_neurons,
            alternatives=8,
        )
