"""Curves over positions, and how repeated text is laid out: what every answer of the induction lab is made of."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from app.core.names import NEURON_PATTERN
from app.core.view import Series, Token, View, along

Rows = Iterator[dict[str, Any]]
CURVES = frozenset({"entropy", "loss", "ln_scale", "top1_prob", "kl_unigram"})


class CurveView(View):
    """Mean over rows, and the 10th and 90th percentile."""

    mean: Series
    low: Series
    high: Series

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        along(len(self.mean), low=self.low, high=self.high)
        return self

    def __len__(self) -> int:
        return len(self.mean)


def check_curves(curves: Mapping[str, CurveView], length: int) -> None:
    """ValueError unless these are curves of this length of metrics, entropy and loss among them, and of neurons."""
    others = curves.keys() - CURVES
    if not {"entropy", "loss"} <= curves.keys() or not all(re.fullmatch(NEURON_PATTERN, name) for name in others):
        raise ValueError("the curves are not those of metrics and neurons")
    along(length, **curves)


def at_position(name: str, curve: CurveView, index: int) -> dict[str, float | None]:
    """A curve's three numbers as columns."""
    return {f"{name}.{end}": getattr(curve, end)[index] for end in ("mean", "low", "high")}


NOWHERE = CurveView(mean=[None], low=[None], high=[None])


def flat(found: Iterable[View], *without: str) -> Rows:
    return (row.model_dump(mode="json", exclude=set(without)) for row in found)


class RepeatView(View):
    """How the rows are laid out. Positions count from 0, BOS included."""

    kind: str
    seed: int
    rows: int
    length: int = Field(description="Tokens of one copy.")
    copies: int
    separator: int = Field(description="Tokens between two copies.")
    starts: list[int] = Field(description="Position at which each copy begins.")
    n_positions: int
    note: str | None = Field(None, description="What had to be changed to fit the model.")
    tokens: list[Token] = Field(description="The first row.")
    changed: list[int] = Field(description="Positions of the first row at which the second copy was corrupted.")
    source: str = Field(description="Where the text comes from.")

    @model_validator(mode="after")
    def _copies_lie_in_the_row(self) -> Self:
        along(self.n_positions, tokens=self.tokens)
        along(self.copies, starts=self.starts)
        ends = [0, *(start + self.length for start in self.starts)]
        if self.length < 1 or self.copies < 2 or any(a > b for a, b in zip(ends, self.starts, strict=False)):
            raise ValueError("starts are not where copies of this length follow each other")
        if ends[-1] > self.n_positions:
            raise ValueError("the copies do not lie in the row")
        return self
