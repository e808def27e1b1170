"""The state of the Why page: one flat form, the same in an address (without the text) and in the body of a POST."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field

from analysis.types import InputError
from app.core.errors import RefusedFieldsError
from app.core.fields import holding
from app.core.interventions import requested
from app.core.place import AtToken
from app.why.request import BaselineText, CircuitRequest, WhyCompareRequest, WhyRequest, WhyTextRequest

# What somebody writes: shown again as it was written, however wrong.
TYPED = ("text", "token", "target", "baseline", "ablate", "along", "patch")
PARTS = 10  # neurons listed singly

FIRST_TEXT = "The old man shook his head and said that he had never seen the like of it. The old man shook his head and"


class Drawing(BaseModel):
    """How an answer is drawn: what of the form is in no request."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    order: Literal["depth", "size"] = Field("depth", description="How the waterfall's parts follow each other.")
    by: Literal["halves", "kind", "component"] = Field("halves", description="What is stacked along the text.")
    lens: Literal["", "entropy", "loss", "kl_final", "top_prob"] = Field(
        "", description="What is drawn of the lens by layer; empty: nothing."
    )

    @property
    def ending(self) -> str:
        """Of an address."""
        changed = self.model_dump(exclude_defaults=True)
        return f"?{urlencode(changed)}" if changed else ""


class WhyState(Drawing, AtToken):
    """Field names are short because they stand in addresses. Numbers arrive as text and may be empty."""

    model: str | None = None
    text: str = FIRST_TEXT
    target: Literal["entropy", "loss", "log_prob"] = "entropy"
    token: str = Field("", max_length=12, description="For log_prob: the token's id.")
    baseline: BaselineText = "reference"
    ablate: bool = False
    along: bool = Field(False, description="Whether the split of every token is shown.")
    scale: Literal["own", "frozen"] = Field("own", description="The LN scale that the lens reads with.")
    vs: str = Field("", max_length=8, description="Another token of the text to compare it with, or pinned.")
    follow: str = Field("", max_length=16, description="The component that is followed upstream.")
    patch: bool = Field(False, description="Whether its edges are checked by patched passes.")
    job: Literal["", "why", "why_text", "circuit"] = Field("", description="Which answer is asked for as a job.")
    table: Literal["parts", "along", "circuit", "compared"] = Field("parts", description="Which one is given as CSV.")

    @classmethod
    def holding(cls, fields: Mapping[str, Any]) -> tuple[Self, RefusedFieldsError | None]:
        """The state of a form or an address as far as it holds, and why the rest does not."""
        given = {name: value for name, value in fields.items() if value != ""}
        state, refused = holding(cls, given)
        return state.placed(state.model, state.text, "vs"), refused

    def drawing(self) -> Drawing:
        return Drawing(order=self.order, by=self.by, lens=self.lens)

    def plain(self) -> Self:
        """The same text, as it is first shown."""
        return type(self)(model=self.model, text=self.text)

    def query(self) -> dict[str, str]:
        """What stands in the address: everything but the text that is not at its default."""
        changed = self.model_dump(exclude={"text", "chosen_in", "job"}, exclude_defaults=True)
        return {name: str(value).lower() if value is True else value for name, value in changed.items()}

    def why(self) -> WhyRequest:
        """InputError where the fields make no request."""
        more = {"position": self.pos or None, "neurons": PARTS, "ablate": self.ablate}
        return requested(WhyRequest, **self._split(), **more)

    def whole(self) -> WhyTextRequest:
        return requested(WhyTextRequest, **self._split())

    def compared(self) -> WhyCompareRequest:
        """With the token of `vs`."""
        more = {"position": self.pos or None, "other_position": self.vs, "neurons": PARTS}
        return requested(WhyCompareRequest, **self._split(), **more)

    def beside(self, text: str, position: int, done: Sequence[str]) -> WhyCompareRequest:
        """With a token of another text's pass, and what is done there."""
        other = {"other_text": text, "other_position": position, "other_interventions": list(done)}
        more = {"position": self.pos or None, "neurons": PARTS}
        return requested(WhyCompareRequest, **self._split(), **other, **more)

    def circuit(self) -> CircuitRequest:
        """Of what is followed: a neuron's activation where a token's log-probability is split, else the share."""
        more = {"of": "activation" if self.target == "log_prob" else self.target, "position": self.pos or None}
        text = self.text.replace("\r\n", "\n")
        return requested(
            CircuitRequest, text=text, component=self.follow, baseline=self.baseline, check=self.patch, **more
        )

    def _token(self) -> int | None:
        """For log_prob alone: what stands in its field otherwise waits there."""
        if self.target != "log_prob":
            return None
        if not re.fullmatch("[0-9]+", self.token):
            raise InputError("The token to explain is named by its id.", code="token_id", hint="For example 262.")
        return int(self.token)

    def _split(self) -> dict[str, Any]:
        return {
            "text": self.text.replace("\r\n", "\n"),
            "target": self.target,
            "token_id": self._token(),
            "baseline": self.baseline,
        }
