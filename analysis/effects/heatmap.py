"""One part of one metric's change for every neuron at every position, filled block by block (METHODS section 3).

part         what it takes                          with d(c) the change under condition c
total        d(total)                               the whole effect
direct       d(direct)                              the LN scale frozen; behind a norm after the MLP d(frozen)
mlp_norm     d(direct) - d(frozen)                  the scale of the norm behind the MLP, where there is one
ln_mediated  d(total) - d(direct)
ln_only      d(ln_only)                             nothing but the LN scale changed
frequency_mediated  d(total) - d(frequency)         the frequency component of the logits frozen
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.effects.ablation import Condition
from analysis.effects.engine import Engine
from analysis.effects.stream import Block, next_tokens, stream
from analysis.trace import LastLayer

Metric = Literal["d_entropy", "d_loss", "d_kl_unigram", "kl"]
Part = Literal["total", "direct", "mlp_norm", "ln_mediated", "ln_only", "frequency_mediated"]

CONDITIONS: dict[Part, tuple[Condition, ...]] = {
    "total": ("total", "direct"),
    "direct": ("total", "direct"),
    "mlp_norm": ("total", "direct", "frozen"),
    "ln_mediated": ("total", "direct"),
    "ln_only": ("ln_only",),
    "frequency_mediated": ("total", "direct", "frequency"),
}
"""What each part is made of; few combinations, since each is compiled by itself."""


@dataclass
class Heatmap:
    """Filled in place. neurons: rising last-layer indices; values: nats, NaN where not computed yet or undefined (no
    next token, no counts); done: cells that have been computed."""

    neurons: list[int]
    values: Float[Tensor, "n pos"]
    done: int = 0

    @property
    def cells(self) -> int:
        return self.values.numel()


def heatmap(
    engine: Engine,
    last: LastLayer,
    token_ids: Sequence[int],
    *,
    metric: Metric,
    part: Part,
    baseline: Float[Tensor, " d_mlp"],
    neurons: Sequence[int] | None = None,
) -> Iterator[Heatmap]:
    """The same object before the first block and after each, with more in it each time. ``neurons``: rising; default
    all of the last layer. float32."""
    which = list(range(engine.readout.d_mlp)) if neurons is None else list(neurons)
    so_far = Heatmap(which, torch.full((len(which), len(token_ids)), torch.nan))
    yield so_far
    places = torch.tensor(which)
    for block in stream(
        engine,
        last,
        next_tokens(token_ids),
        baseline=baseline,
        neurons=neurons,
        conditions=CONDITIONS["mlp_norm" if part == "direct" and engine.readout.post_norm is not None else part],
        ranks=part == "frequency_mediated",
    ):
        rows = torch.searchsorted(places, block.neurons)
        so_far.values[rows[:, None], block.positions] = _part(block, metric, part).T.to(so_far.values)
        so_far.done += block.delta.numel()
        yield so_far


def _part(block: Block, metric: Metric, part: Part) -> Float[Tensor, "pos n"]:
    def change(condition: Condition) -> Tensor:
        values: Tensor = getattr(block.outcomes[condition], metric)
        return values

    match part:
        case "ln_mediated":
            return change("total") - change("direct")
        case "frequency_mediated":
            return change("total") - change("frequency")
        case "mlp_norm":
            return change("direct") - change("frozen")
        case "direct":
            return change("frozen" if "frozen" in block.outcomes else "direct")
        case "total" | "ln_only":
            return change(part)


@dataclass(frozen=True)
class RowSizes:
    """Of each neuron's row, over the positions that are defined: the largest absolute value, the mean of absolute
    values, the mean; NaN where none is."""

    max_abs: Float[Tensor, " n"]
    mean_abs: Float[Tensor, " n"]
    mean: Float[Tensor, " n"]

    def order(self, by: str) -> list[int]:
        """Rows by falling absolute value of one of these, undefined ones last; "neuron": as they stand."""
        if by == "neuron":
            return list(range(len(self.mean)))
        column: Tensor = getattr(self, by)
        rows: list[int] = column.abs().nan_to_num(nan=-1.0).argsort(descending=True, stable=True).tolist()
        return rows


def row_sizes(values: Float[Tensor, "n pos"]) -> RowSizes:
    """NaN cells count nowhere."""
    largest = values.abs().nan_to_num(nan=-1.0).amax(1)
    return RowSizes(largest.masked_fill(largest < 0, torch.nan), values.abs().nanmean(1), values.nanmean(1))
