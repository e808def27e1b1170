"""What the first pass found: mean activations, their range, and the baseline that follows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray

from analysis import store
from analysis.store import Arrays
from analysis.sweep.config import SweepConfig
from analysis.sweep.plan import resampled


@dataclass(frozen=True)
class Baselines:
    """Activation statistics of the chosen neurons over the corpus.

    mean: all positions; the rest: kept positions. drawn: activations of the drawn tokens, in the order of the draw.
    """

    config: SweepConfig
    n_tokens: int
    n_kept: int
    mean: Float64[ndarray, " n"]
    filtered_mean: Float64[ndarray, " n"]
    std: Float64[ndarray, " n"]
    low: Float64[ndarray, " n"]
    high: Float64[ndarray, " n"]
    drawn: Float32[ndarray, "m n"]

    @classmethod
    def merge(cls, config: SweepConfig, n_drawn: int, shards: Iterable[Arrays]) -> Baselines:
        """Add the shards up in their order."""
        counts, drawn = np.zeros(2, dtype=np.int64), None
        sums, squares, low, high = (np.asarray(start) for start in (0.0, 0.0, np.inf, -np.inf))
        for shard in shards:
            counts = counts + shard["counts"]
            for row_sums in shard["row_sums"]:  # row by row: the baseline's last bit decides those of every effect
                sums = sums + row_sums
            squares = squares + shard["squares"]
            low, high = np.minimum(low, shard["low"]), np.maximum(high, shard["high"])
            if drawn is None:
                drawn = np.zeros((n_drawn, shard["drawn"].shape[1]), dtype=np.float32)
            drawn[shard["drawn_index"]] = shard["drawn"]
        if drawn is None:
            raise ValueError("There is nothing to merge.")
        mean, filtered = sums / counts[:, None]
        std = np.sqrt(np.maximum(squares / counts[1] - filtered**2, 0.0))
        return cls(config, int(counts[0]), int(counts[1]), mean, filtered, std, low, high, drawn)

    def pack(self) -> bytes:
        """As bytes, for executors elsewhere."""
        return store.pack(
            {
                "counts": np.array([self.n_tokens, self.n_kept]),
                "mean": self.mean,
                "filtered_mean": self.filtered_mean,
                "std": self.std,
                "low": self.low,
                "high": self.high,
                "drawn": self.drawn,
            }
        )

    @classmethod
    def unpack(cls, config: SweepConfig, content: bytes) -> Baselines:
        arrays = store.unpack(content)
        n_tokens, n_kept = arrays.pop("counts").tolist()
        return cls(config, n_tokens, n_kept, **arrays)

    @cached_property
    def value(self) -> Float64[ndarray, " n"] | None:
        """The baseline of each neuron; None for "resample", which differs from token to token."""
        baseline = self.config.baseline
        match baseline.kind:
            case "mean":
                return self.mean
            case "filtered_mean":
                return self.filtered_mean
            case "zero":
                return np.zeros_like(self.mean)
            case "value":
                return np.full_like(self.mean, baseline.value)
            case "percentile":
                found: ndarray = np.percentile(self.drawn.astype(np.float64), baseline.value or 0.0, axis=0)
                return found
            case "resample":
                return None

    def at(self, row: int, positions: Int64[ndarray, " pos"]) -> Float64[ndarray, "pos n"]:
        """What every neuron becomes at some positions of a row."""
        value = self.value
        if value is not None:
            return np.tile(value, (len(positions), 1))
        chosen = resampled(self.config.seed, row, positions, len(self.drawn))
        found: ndarray = self.drawn[chosen].astype(np.float64)
        return found

    def bin_of(self, activations: Float64[ndarray, "pos n"], bins: int) -> Int64[ndarray, "pos n"]:
        """The histogram bin of each activation: ``bins`` equal ones between the smallest and the largest seen."""
        width = np.where(self.high > self.low, self.high - self.low, 1.0)
        found: ndarray = ((activations - self.low) / width * bins).astype(np.int64)
        return found.clip(0, bins - 1)
