"""One shard's work on one model: the first pass (activations) and the second (effects).

Both run a row at a time, one row in a forward pass and a fixed number of positions in each call of the kernels, so
that no number depends on which rows share a shard or which process computes it. Each is a generator that yields
the tokens it has finished after every short slice, and returns the shard as bytes: who runs it decides what happens in
between.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis import store
from analysis.corpus import kept_positions
from analysis.effects import Condition, Engine, Outcome, next_tokens, stream, warm_up
from analysis.frequency import Unigram
from analysis.kernels import choose
from analysis.metrics import wide
from analysis.model import Model
from analysis.sinks import sinks_in
from analysis.sweep import measures
from analysis.sweep.baselines import Baselines
from analysis.sweep.config import SweepConfig
from analysis.sweep.hooked import ablated_streams, outcomes
from analysis.sweep.plan import Work
from analysis.sweep.sums import Sums
from analysis.trace import LastLayer, position_metrics

SLICE_POSITIONS = 8
"""Positions in one call of the kernels: short enough to let interactive requests in between."""

_ENGINES: WeakValueDictionary[Any, Engine] = WeakValueDictionary()
"""Of the workers that there are: sweeps that take turns on a model share what its readout is made ready with, which is
larger than the model, and the last of them frees it."""

Shard = Generator[int, None, bytes]


@dataclass
class Worker:
    """A model with what a sweep needs beside it; config must be `settled`. Use it from one thread."""

    model: Model
    unigram: Unigram | None
    config: SweepConfig
    conditions: tuple[Condition, ...] = field(init=False)
    layers: dict[int, list[int]] = field(init=False)
    """Layer -> the indices of the chosen neurons there, in the order of every array."""

    def __post_init__(self) -> None:
        self.conditions = measures.conditions_of(self.unigram is not None, self.model.readout.post_norm is not None)
        self.layers = {}
        for neuron in self.config.chosen(self.model):
            self.layers.setdefault(neuron.layer, []).append(neuron.index)

    @classmethod
    def build(cls, model: Model, unigram: Unigram | None, config: SweepConfig) -> Worker:
        """With its kernels compiled, where they are compiled: no slice then waits for the compiler."""
        worker = cls(model, unigram, config)
        _ = worker.engine
        return worker

    @cached_property
    def engine(self) -> Engine:
        """Compiles the kernels, which takes some seconds; the first pass does without."""
        backend = choose(self.config.backend, device=self.model.device, wait=True)
        model, threads, counts = self.model, self.config.threads, self.unigram.sha256 if self.unigram else None
        name = (model.identity, str(model.device), counts, backend.name, threads)
        if (engine := _ENGINES.get(name)) is None:
            # The number of threads is part of what a compiled kernel is compiled for.
            with _threads(threads), torch.inference_mode():
                engine = Engine.build(model.readout, unigram=self.unigram, backend=backend)
                warm_up(engine)
            _ENGINES[name] = engine
        return engine

    @property
    def n(self) -> int:
        return sum(map(len, self.layers.values()))

    def compute(self, work: Work, baselines: Baselines | None) -> Shard:
        """The shard's bytes, by way of the number of tokens finished in each slice."""
        steps = self._activations(work) if baselines is None else self._effects(work, baselines)
        while True:
            try:
                with _threads(self.config.threads), torch.inference_mode():
                    tokens = next(steps)
            except StopIteration as end:
                content: bytes = end.value
                return content
            yield tokens

    # the first pass

    def _activations(self, work: Work) -> Shard:
        """Sums of the activations over all and over kept positions, their range, and the drawn tokens' own."""
        row_sums = np.zeros((len(work.rows), 2, self.n))
        squares, low, high = np.zeros(self.n), np.full(self.n, np.inf), np.full(self.n, -np.inf)
        counts = np.zeros(2, dtype=np.int64)
        drawn = np.zeros((len(work.drawn), self.n), dtype=np.float32)
        for offset, row in enumerate(work.rows):
            activations, _ = self._forward(row)
            values = every = activations.double().cpu().numpy()
            kept = every[kept_positions(list(row), self.config.token_filter, self.model.excluded_ids)]
            values = values[sinks_in(self.model, len(row), keep=self.config.keep_sinks) :]
            row_sums[offset] = values.sum(0), kept.sum(0)
            squares += (kept**2).sum(0)
            low, high = np.minimum(low, kept.min(0)), np.maximum(high, kept.max(0))
            counts += (len(values), len(kept))
            for place, (_, in_row, position) in enumerate(work.drawn):
                if in_row == work.first_row + offset:
                    drawn[place] = every[position]
            yield len(row)
        return store.pack(
            {
                "counts": counts,
                "row_sums": row_sums,
                "squares": squares,
                "low": low,
                "high": high,
                "drawn": drawn,
                "drawn_index": np.array([index for index, _, _ in work.drawn], dtype=np.int64),
            }
        )

    def _forward(self, row: tuple[int, ...]) -> tuple[Float[Tensor, "pos n"], LastLayer]:
        """The chosen neurons' activations, in order, and the last layer's state."""
        last = f"blocks.{self.model.last_layer}"
        resid, post, out = f"{last}.hook_resid_post", f"{last}.mlp.hook_post", f"{last}.mlp.hook_out"
        names = {resid, post, *(f"blocks.{layer}.mlp.hook_post" for layer in self.layers)}
        if self.model.readout.post_norm is not None:
            names.add(out)
        captured = {
            name: wide(value[0])
            for name, value in self.model.run(self.model.tokens(row), capture=sorted(names)).items()
        }
        chosen = [captured[f"blocks.{layer}.mlp.hook_post"][:, which] for layer, which in self.layers.items()]
        return torch.cat(chosen, 1), LastLayer(captured[resid], captured[post], captured.get(out))

    # the second pass

    def _effects(self, work: Work, baselines: Baselines) -> Shard:
        """Sums of every measure, per-row sums for the bootstrap, histogram, examples and the drawn tokens."""
        sums = Sums(self, work, baselines)
        for offset, row in enumerate(work.rows):
            activations, last = self._forward(row)
            kept = kept_positions(list(row), self.config.token_filter, self.model.excluded_ids)
            clean = self._clean(row, last)[:, kept]
            sums.begin(offset, activations[kept].double().cpu().numpy(), kept, clean, last)
            first = 0
            for layer, which in self.layers.items():
                columns = slice(first, first + len(which))
                if layer == self.model.last_layer:
                    yield from self._closed_form(sums, row, last, which, columns, baselines)
                else:
                    yield from self._hooked(sums, row, last, layer, which, columns, baselines)
                first = columns.stop
            sums.end()
            yield len(row)
        return sums.pack()

    def _clean(self, row: tuple[int, ...], last: LastLayer) -> np.ndarray:
        """The clean run's numbers (CLEAN, pos); KL is NaN without token counts."""
        found = position_metrics(self.model.readout, last.resid, self.model.tokens(row)[0], self.unigram)
        kl = torch.full_like(found.entropy, torch.nan) if found.kl_unigram is None else found.kl_unigram
        clean: np.ndarray = torch.stack([found.entropy, found.loss, kl, found.ln_scale]).double().cpu().numpy()
        return clean

    def _closed_form(
        self, sums: Sums, row: tuple[int, ...], last: LastLayer, which: list[int], columns: slice, baselines: Baselines
    ) -> Iterator[int]:
        """Last-layer neurons. The kernels take one baseline a neuron; shifting the activations makes it one a
        position."""
        kept, targets = sums.kept, next_tokens(row)
        shifted = last.activations.clone()
        aim = torch.from_numpy(baselines.at(sums.row, kept)[:, columns]).to(shifted)
        shifted[torch.from_numpy(kept)[:, None], torch.tensor(which)] -= aim
        moved = LastLayer(last.resid, shifted, last.mlp_out)
        everything = len(which) == self.model.d_mlp
        for start in range(0, len(kept), SLICE_POSITIONS):
            some = slice(start, min(start + SLICE_POSITIONS, len(kept)))
            parts = []
            for block in stream(
                self.engine,
                moved,
                targets,
                baseline=torch.zeros_like(shifted[0]),
                positions=torch.from_numpy(kept[some]),
                neurons=None if everything else which,
                conditions=self.conditions,
                ranks=True,
            ):
                parts.append(self._values(block.outcomes))
                yield 0
            sums.add(some, columns, np.concatenate(parts, -1))

    def _hooked(
        self,
        sums: Sums,
        row: tuple[int, ...],
        last: LastLayer,
        layer: int,
        which: list[int],
        columns: slice,
        baselines: Baselines,
    ) -> Iterator[int]:
        """Neurons of an earlier layer, ablated at every position of the row, measured at the kept ones."""
        kept, targets = sums.kept, next_tokens(row).to(last.resid.device)
        aim = torch.from_numpy(baselines.at(sums.row, np.arange(len(row)))[:, columns]).to(last.resid)
        for place, resid in ablated_streams(self.model, row, layer, which, aim):
            found = outcomes(self.model.readout, self.unigram, last.resid[kept], resid[kept], targets[kept])
            column = columns.start + place
            sums.add(slice(0, len(kept)), slice(column, column + 1), self._values(found))
            yield 0

    def _values(self, outcomes: dict[Condition, Outcome]) -> np.ndarray:
        """(condition measure pos n); NaN for a condition that a layer's ablations do not have."""
        found_for = {condition: measures.measure(outcome) for condition, outcome in outcomes.items()}
        missing = torch.full_like(found_for["total"], torch.nan)
        every = [found_for.get(condition, missing) for condition in self.conditions]
        found: np.ndarray = torch.stack(every).cpu().numpy()
        return found


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """torch with a fixed number of threads: how work is divided may decide the last bit."""
    before = torch.get_num_threads()
    if before == n:
        yield
        return
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
