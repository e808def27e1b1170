"""Rows of a finished sweep's text, and the stored numbers there: for recomputing them without this program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.corpus import RowSet
from analysis.sweep.measures import CLEAN
from analysis.sweep.result import Result
from analysis.types import NeuronId

ROWS = 4
MOST_TOKENS = 70_000
"""A text up to this long is given whole, so that averages can be recomputed, too; of a longer one ROWS rows."""

CHANGES = ("total.entropy", "total.loss", "direct.entropy", "direct.loss")
"""Of SAMPLED: what a hooked forward pass gives. direct: with the final LN scale frozen. In nats."""


@dataclass(frozen=True)
class Spots:
    """rows: token ids. drawn: for each drawn token in them its place among ``rows``, its position, the clean entropy
    and loss, and by neuron the CHANGES; None where one was not computed."""

    rows: list[list[int]]
    drawn: list[dict[str, Any]]


def spots(result: Result, text: RowSet, neurons: Sequence[NeuronId]) -> Spots:
    """Every row of a text of at most MOST_TOKENS, else the first ROWS that have a drawn token. ``neurons`` are of the
    sweep."""
    some = sorted({int(row) for row, _ in result.sample_at})[:ROWS]
    chosen = list(range(len(text))) if text.n_tokens <= MOST_TOKENS else some
    places = {row: place for place, row in enumerate(chosen)}
    clean = {name: result.sample_clean[CLEAN.index(name)] for name in ("entropy", "loss")}
    changes = {name: result.sampled(name) for name in CHANGES}
    drawn = [
        {
            "row": places[int(row)],
            "position": int(position),
            **{name: _known(values[token]) for name, values in clean.items()},
            "changes": {
                str(neuron): {name: _known(values[token, result.place[neuron]]) for name, values in changes.items()}
                for neuron in neurons
            },
        }
        for token, (row, position) in enumerate(result.sample_at)
        if int(row) in places
    ]
    return Spots([text.row(row) for row in chosen], drawn)


def _known(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
