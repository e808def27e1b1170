"""What ablating a set of neurons does to calibration, beside its controls, over the rows of a sweep.

Runs: clean; the set ablated to the sweep's baseline; the same changes along random directions (`analysis.controls`).
Then the strongest 1, 2, 4, ... neurons together, and the same changes along random directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.calibration import Calibration, Sums
from analysis.controls import Standing, matched, standing
from analysis.corpus import RowSet
from analysis.model import Model
from analysis.predictions import NeuronSet, Predictions
from analysis.sweep import Result
from analysis.types import InputError, NeuronId, TokenFilter

STRONGEST, RANDOM = "strongest", "norm-matched random"


@dataclass(frozen=True, slots=True)
class NamedSet:
    """One run's set. neurons: none of a control; norms: of what is written."""

    measured: NeuronSet
    neurons: tuple[NeuronId, ...]
    norms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Studied:
    """runs: clean, the set, its controls; growing: (series, number of neurons, run)."""

    sets: tuple[NamedSet, ...]
    runs: tuple[Calibration, ...]
    growing: tuple[tuple[str, int, Calibration], ...]
    n_rows: int
    n_documents: int
    n_tokens: int

    def standings(self) -> Mapping[str, Standing]:
        """Where the set's changes of calibration error, loss and entropy stand among its controls'."""
        clean, ablated, *controls = self.runs
        readers: dict[str, Callable[[Calibration], float]] = {
            "ece": lambda c: c.error.value,
            "loss": lambda c: c.loss,
            "entropy": lambda c: c.entropy,
        }
        found = {
            name: standing(read(ablated) - read(clean), [read(each) - read(clean) for each in controls])
            for name, read in readers.items()
        }
        return {name: each for name, each in found.items() if each is not None}


@dataclass(frozen=True)
class Study:
    """chosen: the places of the set in the sweep; ranked: those of its growing sets, which have at most ``most``
    neurons."""

    model: Model
    result: Result
    chosen: Sequence[int]
    ranked: Sequence[int]
    n_controls: int
    bins: int
    seed: int
    most: int

    def run(self, rows: RowSet, n_rows: int, token_filter: TokenFilter) -> Iterator[tuple[int, Studied | None]]:
        """A row a step: (rows done, None), the last with the result."""
        sets = [NamedSet(NeuronSet("clean", (), ()), (), ()), self._set("ablated", self.chosen)]
        sets += self._controls(self.chosen, self.n_controls, "random")
        sizes = [2**i for i in range(12) if 2**i <= min(self.most, len(self.ranked))]
        along = self._controls(self.ranked[: sizes[-1]] if sizes else (), 1, RANDOM)
        growing = [(STRONGEST, n, self._set("", self.ranked[:n])) for n in sizes]
        growing += [(RANDOM, n, _first(each, n)) for each in along for n in sizes]
        measured = [each.measured for each in (*sets, *(each for _, _, each in growing))]
        predictions = Predictions(self.model, measured)
        sums = [Sums(each.name, self.bins) for each in measured]
        for number in range(n_rows):
            for of, tokens in zip(sums, predictions.of_row(rows.row(number), token_filter), strict=True):
                of.add(tokens, int(rows.documents[number]))
            yield number + 1, None
        if not sums[0].n_tokens:
            raise InputError("There are no tokens to calibrate on.", code="empty_corpus")
        made = [each.result() for each in sums]
        runs = tuple(made[: len(sets)])
        points = [(name, n, each) for (name, n, _), each in zip(growing, made[len(sets) :], strict=True)]
        zero = [(name, 0, runs[0]) for name in (STRONGEST, RANDOM)]
        yield (
            n_rows,
            Studied(
                sets=tuple(sets),
                runs=runs,
                growing=(*zero, *points),
                n_rows=n_rows,
                n_documents=len(np.unique(rows.documents[:n_rows])),
                n_tokens=sums[0].n_tokens,
            ),
        )

    def _set(self, name: str, places: Sequence[int]) -> NamedSet:
        """Neurons with the sweep's baseline; under resampling their mean."""
        value = self.result.column("baseline")
        value = np.where(np.isfinite(value), value, self.result.column("activation.mean"))
        neurons = tuple(self.result.neurons[place] for place in places)
        indices = tuple(neuron.index for neuron in neurons)
        norms = self.model.readout.W_out[list(indices)].double().norm(dim=1).tolist()
        return NamedSet(NeuronSet(name, indices, tuple(float(value[place]) for place in places)), neurons, tuple(norms))

    def _controls(self, places: Sequence[int], n: int, name: str) -> list[NamedSet]:
        like = self._set("", places).measured
        if not like.indices:
            return []
        sets = matched(self.model.readout, like.indices, n_sets=n, seed=self.seed)
        return [
            NamedSet(
                NeuronSet(f"{name} {number}", like.indices, like.values, rows),
                (),
                tuple(rows.double().norm(dim=1).tolist()),
            )
            for number, rows in enumerate(sets, start=1)
        ]


def _first(each: NamedSet, n: int) -> NamedSet:
    """The first n directions of a control."""
    found = each.measured
    rows = None if found.rows is None else found.rows[:n]
    return NamedSet(NeuronSet(found.name, found.indices[:n], found.values[:n], rows), (), each.norms[:n])
