"""The state of the effects page: one flat form, the same in an address (without the text) and in the body of a POST."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field

from analysis.grammar import listed
from app.core.errors import RefusedFieldsError
from app.core.fields import holding
from app.core.interventions import requested
from app.core.place import AtToken
from app.core.request import EffectsRequest, TraceRequest
from app.effects.request import (
    DoseRequest,
    HeatmapRequest,
    HeatMetric,
    HeatPart,
    HeatSort,
    JointRequest,
    LedgerRequest,
    LensRequest,
)

Panel = Literal["heatmap", "joint", "dose", "ledger", "lens"]

# What somebody writes: shown again as it was written, however wrong.
TYPED = ("text", "neurons", "baseline", "limit", "low", "high", "k", "ln", "metric", "part", "sort", "scale", "of")

FIRST_TEXT = (
    "The old man shook his head and said that he had never seen the like of it. "
    "The old man shook his head and said that he had never seen the like of it."
)
"""What the page shows before anything is pasted: a sentence twice."""


class EffectsState(AtToken):
    """Field names are short because they stand in addresses. Numbers arrive as text and may be empty."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str | None = None
    text: str = FIRST_TEXT
    panel: Panel = "heatmap"
    neurons: str = Field("", max_length=4000, description="Names separated by spaces; empty: the strongest two.")
    baseline: str = Field("mean", max_length=24)
    metric: HeatMetric = "d_entropy"
    part: HeatPart = "total"
    sort: HeatSort = "max_abs"
    limit: str = Field("48", max_length=5)
    low: str = Field("", max_length=24)
    high: str = Field("", max_length=24)
    k: str = Field("", max_length=6)
    scale: Literal["own", "frozen"] = "own"
    of: Literal["stream", "block"] = "stream"
    reads: Literal["entropy", "loss", "kl_final", "top_prob"] = Field("entropy", description="What the lens colours.")
    ln: str = Field("", max_length=24, description="Empty: the model's norm; 'median' or a number: a constant scale.")

    @classmethod
    def holding(cls, fields: Mapping[str, Any]) -> tuple[Self, RefusedFieldsError | None]:
        """The state of a form or an address as far as it holds, and why the rest does not."""
        given = {name: value for name, value in fields.items() if value != "" or name in ("neurons", "ln")}
        state, refused = holding(cls, given)
        return state.placed(state.model, state.text), refused

    def plain(self) -> Self:
        """The same panel on the same text, as it is first shown."""
        return type(self)(model=self.model, text=self.text, panel=self.panel)

    def query(self) -> dict[str, str]:
        """What stands in the address: everything but the text that is not at its default."""
        changed = self.model_dump(exclude={"text", "chosen_in"}, exclude_defaults=True)
        return {name: value for name, value in changed.items() if value is not None}

    def trace(self) -> TraceRequest:
        """The text's tokens and how sure the model is at each: the strip that a position is chosen from."""
        return requested(TraceRequest, **self._prompt())

    def heatmap(self) -> HeatmapRequest:
        fields = {"metric": self.metric, "part": self.part, "sort": self.sort, "limit": self.limit or 48}
        return requested(HeatmapRequest, **{**self._prompt(), **fields, "baseline": self.baseline})

    def joint(self, neurons: list[str]) -> JointRequest:
        fields = {"position": self.position, "neurons": neurons, "baseline": self.baseline}
        return requested(JointRequest, **{**self._prompt(), **fields})

    def dose(self, neurons: list[str]) -> DoseRequest:
        fields = {"position": self.position, "neurons": neurons, "low": self.low or None, "high": self.high or None}
        return requested(DoseRequest, **{**self._prompt(), **fields})

    def strongest(self, limit: int) -> EffectsRequest:
        """The neurons that change the entropy most at the token."""
        fields = {"position": self.position, "baseline": self.baseline, "limit": limit}
        return requested(EffectsRequest, **{**self._prompt(), **fields})

    def ledger(self) -> LedgerRequest:
        return requested(
            LedgerRequest, **{"text": self._text(), "position": self.position, "k": self.k or None, "limit": 40}
        )

    def lens(self) -> LensRequest:
        return requested(LensRequest, **{"text": self._text(), "scale": self.scale, "of": self.of})

    @property
    def position(self) -> str | None:
        return self.pos or None

    @property
    def names(self) -> list[str]:
        """The neurons written in the box, however they are separated."""
        return listed(self.neurons)

    def _prompt(self) -> dict[str, Any]:
        return {"text": self._text(), "ln_scale": self.ln or None}

    def _text(self) -> str:
        return self.text.replace("\r\n", "\n")
