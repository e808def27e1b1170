"""The state of the effects page: one flat form, the same in an address (without the text) and in the body of a POST."""

import re
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analysis.types import InputError
from app.errors import validation_message
from app.requests.effects import (
    DoseRequest,
    HeatmapRequest,
    HeatMetric,
    HeatPart,
    HeatSort,
    JointRequest,
    LedgerRequest,
)

Panel = Literal["heatmap", "joint", "dose", "ledger"]
Request = TypeVar("Request", bound=BaseModel)

FIRST_TEXT = (
    "The old man shook his head and said that he had never seen the like of it. "
    "The old man shook his head and said that he had never seen the like of it."
)
"""What the page shows before anything is pasted: a sentence twice, so that confidence rises."""


class EffectsState(BaseModel):
    """Field names are short because they stand in addresses. Numbers arrive as text and may be empty."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str | None = None
    text: str = FIRST_TEXT
    panel: Panel = "heatmap"
    pos: str = Field("", max_length=8, description="The token; empty: the last.")
    neurons: str = Field("", max_length=4000, description="Names separated by spaces; empty: the strongest two.")
    baseline: str = Field("mean", max_length=24)
    metric: HeatMetric = "d_entropy"
    part: HeatPart = "total"
    sort: HeatSort = "max_abs"
    limit: str = Field("48", max_length=5)
    low: str = Field("", max_length=24)
    high: str = Field("", max_length=24)
    k: str = Field("", max_length=6)
    ln: str = Field("", max_length=24, description="Empty: the model's norm; 'median' or a number: a constant scale.")

    @classmethod
    def read(cls, fields: dict[str, Any]) -> Self:
        """The state of a form or an address; InputError for a value that no control offers."""
        return _valid(cls, {name: value for name, value in fields.items() if value != "" or name in ("neurons", "ln")})

    def query(self) -> dict[str, str]:
        """What stands in the address: everything but the text that is not at its default."""
        changed = self.model_dump(exclude={"text"}, exclude_defaults=True)
        return {name: value for name, value in changed.items() if value is not None}

    def heatmap(self) -> HeatmapRequest:
        fields = {"metric": self.metric, "part": self.part, "sort": self.sort, "limit": self.limit or 48}
        return _valid(HeatmapRequest, {**self._prompt(), **fields, "baseline": _number(self.baseline)})

    def joint(self, neurons: list[str]) -> JointRequest:
        fields = {"position": self.position, "neurons": neurons, "baseline": _number(self.baseline)}
        return _valid(JointRequest, {**self._prompt(), **fields})

    def dose(self, neurons: list[str]) -> DoseRequest:
        fields = {"position": self.position, "neurons": neurons, "low": self.low or None, "high": self.high or None}
        return _valid(DoseRequest, {**self._prompt(), **fields})

    def ledger(self) -> LedgerRequest:
        return _valid(
            LedgerRequest, {"text": self._text(), "position": self.position, "k": self.k or None, "limit": 40}
        )

    @property
    def position(self) -> str | None:
        return self.pos or None

    @property
    def names(self) -> list[str]:
        """The neurons written in the box, however they are separated."""
        return list(dict.fromkeys(re.findall(r"[^\s,;]+", self.neurons)))

    def _prompt(self) -> dict[str, Any]:
        return {"text": self._text(), "ln_scale": _number(self.ln) if self.ln else None}

    def _text(self) -> str:
        return self.text.replace("\r\n", "\n")


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _valid(kind: type[Request], fields: dict[str, Any]) -> Request:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise InputError(f"{validation_message(error.errors())}.", code="invalid_request") from None
