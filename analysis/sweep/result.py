"""Merged shards: one table row a neuron, with intervals, and what the figures need.

Definitions as in METHODS section 3, averages over kept tokens:

    TE = mean |dLoss|, total;  DE = mean |dLoss|, LN frozen;  DE_freq = mean |dLoss|, frequency frozen
    ln_fraction = 1 - DE/TE;   frequency_fraction = 1 - DE_freq/TE
    mlp_norm_fraction = (DE - DE_frozen)/TE, DE_frozen with the scale of the norm behind the MLP frozen as well: with
    ln_fraction and DE_frozen/TE, what is direct, it sums to 1

The fractions are ratios of averages, can be negative, and are NaN where TE is below `MIN_EFFECT`, unreliable where
their 95 % interval is wider than `MAX_WIDTH`. Intervals are percentile bootstrap intervals over documents: rows of one
document are not independent.

Whoever picks the strongest neurons and shows the numbers that they were picked by shows luck as well. So every second
document is set aside (with one document, every second row): columns ``choosing.`` are of the one half, to choose by,
columns ``showing.`` of the other, to show.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped
from numpy import ndarray

from analysis import store
from analysis.effects import Condition
from analysis.store import Arrays, RunFolder
from analysis.sweep import measures
from analysis.sweep.baselines import Baselines
from analysis.sweep.config import SweepConfig
from analysis.sweep.measures import CLEAN, EXAMPLE_LISTS, MEASURES, SAMPLED, Extremes
from analysis.sweep.plan import replicate_weights
from analysis.types import NeuronId

MIN_EFFECT = 1e-6
"""nats: below this TE is rounding (float32 logits), and a ratio to it means nothing."""

ARRAYS = ("histogram", "example_values", "example_rows", "example_positions", "sample", "sample_clean", "sample_at")
LATER = ("sample_showing", "sample_stream", "sample_target")
CHOOSING, SHOWING = "choosing.", "showing."
CHOSEN_BY = ("total.abs_loss", "direct.abs_loss", "frequency.abs_loss", "total.abs_entropy")
"""The columns of the first half."""

MAX_WIDTH = 0.5
LEVEL = 0.95

Table = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Halves:
    """What the rows were halved by, how many of these each half has, and how many rows."""

    unit: Literal["documents", "rows"]
    units: tuple[int, int]
    rows: tuple[int, int]


@dataclass(frozen=True)
class Result:
    """A finished (or, while it runs, partial) sweep.

    table: a column each of (n,); see `table_of`. histogram: (n, bins) counts between ``low`` and ``high`` of the table.
    examples: (list, k, n) values, rows, positions, the lists of EXAMPLE_LISTS, best first, row -1 where there are
    fewer.
    sample: (field, token, n) of SAMPLED at the drawn tokens; sample_clean: (CLEAN, token); sample_at: (token, 2) row
    and position; sample_showing: (token) whether it lies in the half to show; sample_stream: (1 or 2, token, d_model)
    the last residual stream there and, where a norm follows the MLP, the MLP's output before it; sample_target: the
    next token's id. These and halves are None in results of earlier versions.
    """

    neurons: tuple[NeuronId, ...]
    conditions: tuple[Condition, ...]
    table: Table
    clean: dict[str, float]
    n_rows: int
    n_tokens: int
    histogram: np.ndarray
    example_values: np.ndarray
    example_rows: np.ndarray
    example_positions: np.ndarray
    sample: np.ndarray
    sample_clean: np.ndarray
    sample_at: np.ndarray
    sample_showing: np.ndarray | None = None
    sample_stream: np.ndarray | None = None
    sample_target: np.ndarray | None = None
    halves: Halves | None = None

    def column(self, name: str) -> Shaped[ndarray, " n"]:
        found: ndarray = self.table[name]
        return found

    def sampled(self, name: str) -> ndarray:
        """(token, n) of one field of SAMPLED."""
        found: ndarray = self.sample[SAMPLED.index(name)]
        return found

    @cached_property
    def place(self) -> dict[NeuronId, int]:
        return {neuron: index for index, neuron in enumerate(self.neurons)}

    def examples(self, neuron: NeuronId, quantity: str, sign: int) -> list[tuple[float, int, int]]:
        """(value, row, position), the most extreme first."""
        which, column = EXAMPLE_LISTS.index((quantity, sign)), self.place[neuron]
        return [
            (sign * float(value), int(row), int(position))
            for value, row, position in zip(
                self.example_values[which, :, column],
                self.example_rows[which, :, column],
                self.example_positions[which, :, column],
                strict=True,
            )
            if row >= 0
        ]

    # as files

    def files(self) -> dict[str, bytes]:
        """neurons.parquet, and arrays.safetensors with everything that is not one number a neuron."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        arrays |= {name: getattr(self, name) for name in LATER if getattr(self, name) is not None}
        return {"neurons.parquet": _parquet(self.neurons, self.table), "arrays.safetensors": store.pack(arrays)}

    def summary(self) -> dict[str, Any]:
        return {
            "conditions": list(self.conditions),
            "clean": {name: value if np.isfinite(value) else None for name, value in self.clean.items()},
            "n_rows": self.n_rows,
            "n_tokens": self.n_tokens,
            "halves": None if self.halves is None else asdict(self.halves),
        }

    @classmethod
    def read(cls, folder: RunFolder, summary: dict[str, Any]) -> Result:
        neurons, table = _read_parquet(folder.read("neurons.parquet"))
        clean = {name: np.nan if value is None else value for name, value in summary["clean"].items()}
        halves = summary.get("halves")
        return cls(
            neurons,
            tuple(summary["conditions"]),
            table,
            clean,
            summary["n_rows"],
            summary["n_tokens"],
            halves=halves and Halves(halves["unit"], tuple(halves["units"]), tuple(halves["rows"])),
            **store.unpack(folder.read("arrays.safetensors")),
        )


def _parquet(neurons: tuple[NeuronId, ...], table: Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"layer": [n.layer for n in neurons], "index": [n.index for n in neurons], **table}
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd")
    return out.getvalue()


def _read_parquet(content: bytes) -> tuple[tuple[NeuronId, ...], Table]:
    import pyarrow.parquet as pq

    found = pq.read_table(io.BytesIO(content))
    columns = {name: found.column(name).to_numpy() for name in found.column_names}
    layers, indices = columns.pop("layer").tolist(), columns.pop("index").tolist()
    return tuple(NeuronId(layer, index) for layer, index in zip(layers, indices, strict=True)), columns


# merging


def merge(
    config: SweepConfig,
    neurons: tuple[NeuronId, ...],
    conditions: tuple[Condition, ...],
    baselines: Baselines,
    draw: ndarray,
    shards: Iterable[Arrays],
    *,
    documents: Int64[ndarray, " rows"],
    rows: Int64[ndarray, " some"],
) -> Result:
    """Add the shards up in their order, holding one at a time. draw: (token, 2) row and position of the drawn
    tokens; documents: which document each row of the run is from; rows: those of the shards."""
    total = _Totals(config, len(neurons), conditions, len(draw), documents, rows)
    for shard in shards:
        total.add(shard)
    here = total.sample_here
    return Result(
        neurons=neurons,
        conditions=conditions,
        table=table_of(config, conditions, baselines, total),
        clean=dict(zip(CLEAN, (total.clean / total.n_tokens).tolist(), strict=True)),
        n_rows=total.n_rows,
        n_tokens=total.n_tokens,
        histogram=total.histogram,
        example_values=np.stack([extremes.values for extremes in total.lists]),
        example_rows=np.stack([extremes.rows for extremes in total.lists]),
        example_positions=np.stack([extremes.positions for extremes in total.lists]),
        sample=total.sample[:, here],
        sample_clean=total.sample_clean[:, here],
        sample_at=draw[here],
        sample_showing=total.second[draw[here, 0]],
        sample_stream=None if total.sample_stream is None else total.sample_stream[:, here],
        sample_target=None if total.sample_stream is None else total.sample_target[here],
        halves=total.halves(),
    )


def second_half(documents: Int64[ndarray, " rows"]) -> Bool[ndarray, " rows"]:
    """Which rows are set aside to show: those of every second document; with one document every second row."""
    names, unit = np.unique(documents, return_inverse=True)
    found: ndarray = (unit if len(names) > 1 else np.arange(len(documents))) % 2 == 1
    return found


class _Totals:
    def __init__(
        self,
        config: SweepConfig,
        n: int,
        conditions: tuple[Condition, ...],
        n_sample: int,
        documents: ndarray,
        rows: ndarray,
    ) -> None:
        self.config, self.documents, self.rows, self.second = config, documents, rows, second_half(documents)
        self.boot = tuple(np.array(measures.boot_index(conditions)).T)
        self.sums = np.zeros((len(conditions), len(MEASURES), n))
        self.squares = np.zeros_like(self.sums)
        # Of each half: (half, ...)
        self.row_totals = np.zeros((2, self.boot[0].size, n))
        self.tokens = np.zeros(2, dtype=np.int64)
        self.replicates = np.zeros((2, config.bootstrap, self.boot[0].size, n))
        self.replicate_tokens = np.zeros((2, config.bootstrap))
        self.clean = np.zeros(len(CLEAN))
        self.histogram = np.zeros((n, config.bins), dtype=np.int64)
        self.lists = [Extremes(config.examples, n) for _ in EXAMPLE_LISTS]
        self.sample = np.zeros((len(SAMPLED), n_sample, n), dtype=np.float32)
        self.sample_clean = np.zeros((len(CLEAN), n_sample))
        self.sample_here = np.zeros(n_sample, dtype=bool)
        self.sample_stream: np.ndarray | None = None
        self.sample_target = np.zeros(n_sample, dtype=np.int64)
        self.n_rows = self.n_tokens = 0

    def add(self, shard: Arrays) -> None:
        self.sums += shard["sums"]
        self.squares += shard["squares"]
        self.histogram += shard["histogram"]
        for offset, row_sums in enumerate(shard["row_sums"]):
            n_tokens, row = int(shard["row_tokens"][offset]), int(self.rows[self.n_rows + offset])
            half = int(self.second[row])
            self.row_totals[half] += row_sums
            self.tokens[half] += n_tokens
            self._resample(half, int(self.documents[row]), row_sums, n_tokens)
        for clean in shard["row_clean"]:
            self.clean += clean
        for which, extremes in enumerate(self.lists):
            extremes.add(
                shard["example_values"][which], shard["example_rows"][which], shard["example_positions"][which]
            )
        at = shard["sample_index"]
        self.sample[:, at], self.sample_clean[:, at], self.sample_here[at] = (
            shard["sample"],
            shard["sample_clean"],
            True,
        )
        if "sample_stream" in shard:  # not in those of earlier versions
            if self.sample_stream is None:
                parts, _, d_model = shard["sample_stream"].shape
                self.sample_stream = np.zeros((parts, len(self.sample_target), d_model), dtype=np.float32)
            self.sample_stream[:, at], self.sample_target[at] = shard["sample_stream"], shard["sample_target"]
        self.n_rows += len(shard["row_tokens"])
        self.n_tokens += int(shard["row_tokens"].sum())

    def _resample(self, half: int, document: int, row_sums: ndarray, n_tokens: int) -> None:
        """Row by row, so that the order of additions does not depend on the shards."""
        weights = replicate_weights(self.config.seed, document, self.config.bootstrap)
        self.replicate_tokens[half] += weights * n_tokens
        for times in range(1, int(weights.max(initial=0)) + 1):
            self.replicates[half, weights == times] += times * row_sums

    def halves(self) -> Halves:
        """Of the rows that there are so far."""
        several = len(np.unique(self.documents)) > 1
        rows = self.rows[: self.n_rows]
        units, second = (self.documents[rows] if several else rows), self.second[rows]
        first, other = (len(np.unique(units[which])) for which in (~second, second))
        return Halves("documents" if several else "rows", (first, other), (int((~second).sum()), int(second.sum())))


def table_of(config: SweepConfig, conditions: tuple[Condition, ...], baselines: Baselines, total: _Totals) -> Table:
    """Columns: ``<condition>.<measure>`` (mean), ``.var``, and ``.low``/``.high`` where there is an interval; the
    fractions with theirs; the activation's baseline, mean, std, low, high; those of the halves."""
    table: Table = {}
    value = baselines.value
    table["baseline"] = np.full(len(baselines.mean), np.nan) if value is None else value
    for name in ("mean", "std", "low", "high"):
        table[f"activation.{name}"] = getattr(baselines, "filtered_mean" if name == "mean" else name)
    total.sums[total.boot] = total.row_totals.sum(0)  # added row by row: not a bit depends on the shards
    means, squares = total.sums / total.n_tokens, total.squares / total.n_tokens
    for c, condition in enumerate(conditions):
        for m, measure in enumerate(MEASURES):
            table[f"{condition}.{measure}"] = means[c, m]
            table[f"{condition}.{measure}.var"] = np.maximum(squares[c, m] - means[c, m] ** 2, 0.0)
    names = [f"{condition}.{measure}" for condition, measure in measures.BOOTSTRAPPED if condition in conditions]
    table |= _bootstrapped(names, conditions, table, total.replicates.sum(0), total.replicate_tokens.sum(0))
    first, second = (
        dict(zip(names, sums / tokens if tokens else np.full_like(sums, np.nan), strict=True))
        for sums, tokens in zip(total.row_totals, total.tokens, strict=True)
    )
    table |= {CHOOSING + name: first[name] for name in CHOSEN_BY if name in first}
    second |= _bootstrapped(names, conditions, second, total.replicates[1], total.replicate_tokens[1])
    table |= {SHOWING + name: column for name, column in second.items()}
    return {name: np.ascontiguousarray(column, dtype=column.dtype) for name, column in table.items()}


def _bootstrapped(
    names: list[str], conditions: tuple[Condition, ...], means: Table, replicates: ndarray, tokens: ndarray
) -> Table:
    """The intervals of the means, and the fractions with theirs."""
    usable = tokens > 0
    drawn = replicates[usable] / tokens[usable, None, None]
    by_name = {name: drawn[:, index] for index, name in enumerate(names)}
    table: Table = {}
    for name in names:
        table[f"{name}.low"], table[f"{name}.high"] = interval(by_name[name])
    for name, condition in (("ln_fraction", "direct"), ("frequency_fraction", "frequency")):
        if condition in conditions:
            table |= _fraction(name, means[f"{condition}.abs_loss"], means["total.abs_loss"], by_name, condition)
    if "frozen" in conditions:
        frozen, ln_frozen, total = (means[f"{condition}.abs_loss"] for condition in ("frozen", "direct", "total"))
        table["mlp_norm_fraction"] = fraction(frozen, total) - fraction(ln_frozen, total)
    return table


def _fraction(name: str, part: ndarray, whole: ndarray, replicates: dict[str, ndarray], condition: str) -> Table:
    low, high = interval(fraction(replicates[f"{condition}.abs_loss"], replicates["total.abs_loss"]))
    value = fraction(part, whole)
    return {
        name: value,
        f"{name}.low": low,
        f"{name}.high": high,
        f"{name}.reliable": np.isfinite(value) & (high - low <= MAX_WIDTH),
    }


def fraction(part: ndarray, whole: ndarray) -> ndarray:
    """1 - part/whole; NaN where the whole is below MIN_EFFECT."""
    enough = whole >= MIN_EFFECT
    found: ndarray = np.where(enough, 1 - part / np.where(enough, whole, 1.0), np.nan)
    return found


def interval(replicates: Float64[ndarray, "replicate n"]) -> tuple[ndarray, ndarray]:
    """The central LEVEL of the replicates; NaN where there are fewer than two finite ones."""
    finite, tails = np.isfinite(replicates).sum(0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.full(replicates.shape[1], np.nan), np.full(replicates.shape[1], np.nan)
    gaps = finite < len(replicates)
    for some, quantile in ((~gaps, np.quantile), (gaps, np.nanquantile)):  # the second is a loop over columns
        which = some & (finite >= 2)
        if which.any():
            low[which], high[which] = quantile(replicates[:, which], tails, axis=0)
    return low, high


def shards_of(folder: RunFolder, stage: str, shards: Iterable[int]) -> Iterator[Arrays]:
    """Stored shards one at a time; a damaged one is skipped."""
    return (found for shard in shards if (found := folder.get(stage, shard)) is not None)
