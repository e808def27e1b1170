"""The accumulators of one shard of the second pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy import ndarray

from analysis import store
from analysis.sweep import measures
from analysis.sweep.baselines import Baselines
from analysis.sweep.measures import CLEAN, EXAMPLE_LISTS, MEASURES, SAMPLED, Extremes
from analysis.sweep.plan import Work
from analysis.trace import LastLayer

if TYPE_CHECKING:
    from analysis.sweep.worker import Worker


class Sums:
    """Rows come one after another: `begin`, then `add` for every group of positions and neurons, then `end`."""

    def __init__(self, worker: Worker, work: Work, baselines: Baselines) -> None:
        config, n, rows = worker.config, worker.n, len(work.rows)
        self.work, self.baselines, self.conditions = work, baselines, worker.conditions
        self.boot = tuple(np.array(measures.boot_index(worker.conditions)).T)
        self.sums = np.zeros((len(worker.conditions), len(MEASURES), n))
        self.squares = np.zeros_like(self.sums)
        self.row_sums = np.zeros((rows, self.boot[0].size, n))
        self.row_clean = np.zeros((rows, len(CLEAN)))
        self.row_tokens = np.zeros(rows, dtype=np.int64)
        self.histogram = np.zeros((n, config.bins), dtype=np.int64)
        self.lists = [Extremes(config.examples, n) for _ in EXAMPLE_LISTS]
        self.sample = np.zeros((len(SAMPLED), len(work.drawn), n), dtype=np.float32)
        self.sample_clean = np.zeros((len(CLEAN), len(work.drawn)))
        readout = worker.model.readout
        parts = 1 if readout.post_norm is None else 2
        self.sample_stream = np.zeros((parts, len(work.drawn), readout.d_model), dtype=np.float32)
        self.sample_target = np.zeros(len(work.drawn), dtype=np.int64)

    def begin(
        self,
        offset: int,
        activations: Float64[ndarray, "kept n"],
        kept: Int64[ndarray, " kept"],
        clean: Float64[ndarray, "clean kept"],
        last: LastLayer,
    ) -> None:
        """A row's activations and clean numbers, at its kept positions; last: of all its positions."""
        self.offset, self.row, self.kept = offset, self.work.first_row + offset, kept
        self.values = {name: np.zeros_like(activations) for name in ("entropy", "loss")} | {"activation": activations}
        self.row_tokens[offset] = len(kept)
        self.row_clean[offset] = clean.sum(1)
        bins = self.baselines.bin_of(activations, self.histogram.shape[1])
        np.add.at(self.histogram, (np.arange(len(self.histogram))[None, :], bins), 1)
        places = {position: place for place, (_, row, position) in enumerate(self.work.drawn) if row == self.row}
        self.drawn = [(at, places[position]) for at, position in enumerate(kept.tolist()) if position in places]
        for at, place in self.drawn:
            self.sample_clean[:, place] = clean[:, at]
            position = int(kept[at])
            self.sample_target[place] = self.work.rows[offset][position + 1]
            for part, values in enumerate((last.resid, last.mlp_out)[: len(self.sample_stream)]):
                assert values is not None
                self.sample_stream[part, place] = values[position].cpu().numpy()

    def add(self, some: slice, columns: slice, values: Float64[ndarray, "condition measure pos n"]) -> None:
        """The measures of the kept positions ``some`` and the neurons ``columns``."""
        total = values.sum(2)
        self.sums[:, :, columns] += total
        self.squares[:, :, columns] += (values**2).sum(2)
        self.row_sums[self.offset, :, columns] += total[self.boot]
        for name in ("entropy", "loss"):
            self.values[name][some, columns] = values[0, MEASURES.index(name)]
        here = [(at, place) for at, place in self.drawn if some.start <= at < some.stop]
        if here:
            by_condition = dict(zip(self.conditions, torch.from_numpy(values), strict=True))
            activations = torch.from_numpy(self.values["activation"][some, columns])
            fields = measures.sampled(activations, by_condition).numpy()
            for at, place in here:
                self.sample[:, place, columns] = fields[:, at - some.start]

    def end(self) -> None:
        rows, positions = np.full((len(self.kept), 1), self.row), self.kept[:, None]
        for extremes, (name, sign) in zip(self.lists, EXAMPLE_LISTS, strict=True):
            extremes.add(sign * self.values[name], rows, positions)

    def pack(self) -> bytes:
        return store.pack(
            {
                "sums": self.sums,
                "squares": self.squares,
                "row_sums": self.row_sums,
                "row_clean": self.row_clean,
                "row_tokens": self.row_tokens,
                "histogram": self.histogram,
                "example_values": np.stack([extremes.values for extremes in self.lists]),
                "example_rows": np.stack([extremes.rows for extremes in self.lists]),
                "example_positions": np.stack([extremes.positions for extremes in self.lists]),
                "sample": self.sample,
                "sample_clean": self.sample_clean,
                "sample_stream": self.sample_stream,
                "sample_target": self.sample_target,
                "sample_index": np.array([index for index, _, _ in self.work.drawn], dtype=np.int64),
            }
        )
