"""What there is to do: shards of rows, and the tokens drawn for scatter plots and percentiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from analysis.corpus import RowSet, kept_positions, mix
from analysis.sweep.config import SweepConfig

DRAWN_TOKENS = 4096
"""Kept tokens whose activations the first pass keeps, for percentiles and resampling."""

_ROW, _TOKEN, _REPLICATE, _DRAW = (np.int64(n) for n in range(4))  # what a hash is used for


@dataclass(frozen=True, slots=True)
class Draw:
    """Randomly drawn kept tokens: by smallest hash, so that a smaller draw is the beginning of a larger one."""

    rows: Int64[ndarray, " m"]
    positions: Int64[ndarray, " m"]

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, n: int) -> Draw:
        return Draw(self.rows[:n], self.positions[:n])

    def within(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """(index in the draw, row, position) of the tokens that lie in rows start..stop-1."""
        here = ((self.rows >= start) & (self.rows < stop)).nonzero()[0]
        return [(int(i), int(self.rows[i]), int(self.positions[i])) for i in here]


@dataclass(frozen=True, slots=True)
class Work:
    """One shard: the durable unit. ``drawn``: (index in the draw, row, position) of its drawn tokens."""

    stage: str
    shard: int
    first_row: int
    rows: tuple[tuple[int, ...], ...]
    drawn: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of a run cut into shards."""

    rows: RowSet
    config: SweepConfig
    excluded: frozenset[int]
    draw: Draw
    n_kept: int

    @classmethod
    def make(cls, rows: RowSet, config: SweepConfig, excluded: frozenset[int]) -> Plan:
        """Read every row once, to count kept tokens and to draw."""
        draw, n_kept = _draw(rows, config, excluded)
        return cls(rows, config, excluded, draw, n_kept)

    @property
    def n_shards(self) -> int:
        return -(-len(self.rows) // self.config.shard_rows)

    def work(self, stage: str, shard: int) -> Work:
        start = shard * self.config.shard_rows
        stop = min(start + self.config.shard_rows, len(self.rows))
        draw = self.draw if stage == "baselines" else self.draw.first(self.config.sample_tokens)
        rows = tuple(tuple(self.rows.row(index)) for index in range(start, stop))
        return Work(stage, shard, start, rows, tuple(draw.within(start, stop)))

    def works(self, stage: str, shards: list[int]) -> Iterator[Work]:
        return (self.work(stage, shard) for shard in shards)


def _draw(rows: RowSet, config: SweepConfig, excluded: frozenset[int]) -> tuple[Draw, int]:
    wanted = max(DRAWN_TOKENS, config.sample_tokens)
    found = np.zeros((3, 0), dtype=np.int64)
    n_kept = 0
    for index, row in enumerate(rows):
        kept = kept_positions(row, config.token_filter, excluded)
        n_kept += len(kept)
        keys = (mix(config.seed, _TOKEN, np.full(len(kept), index), kept) >> np.uint64(1)).astype(np.int64)
        found = np.concatenate([found, np.stack([keys, np.full(len(kept), index), kept])], axis=1)
        if found.shape[1] > 4 * wanted:
            found = _smallest(found, wanted)
    found = _smallest(found, wanted)
    return Draw(found[1], found[2]), n_kept


def _smallest(found: ndarray, n: int) -> ndarray:
    order: ndarray = np.lexsort((found[2], found[1], found[0]))[:n]
    return found[:, order]


def resampled(seed: int, row: int, positions: Int64[ndarray, " pos"], n_drawn: int) -> Int64[ndarray, " pos"]:
    """Which drawn token stands in for each position under the baseline "resample"."""
    hashes = mix(seed, _DRAW, np.full(len(positions), row), positions)
    chosen: ndarray = (hashes % np.uint64(n_drawn)).astype(np.int64)
    return chosen


def replicate_weights(seed: int, row: int, replicates: int) -> Int64[ndarray, " replicates"]:
    """How often a row counts in each bootstrap replicate: Poisson(1), which resamples sequences without holding them.

    (Oza and Russell 2001; Chamandy et al. 2012: for many rows the same as drawing n of n with replacement.)
    """
    uniform = mix(seed, _REPLICATE, np.full(replicates, row), np.arange(replicates)) / 2.0**64
    weights: ndarray = np.searchsorted(_POISSON, uniform, side="right").astype(np.int64)
    return weights


_POISSON = np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, 16)]))
