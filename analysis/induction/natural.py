"""Repeats that nature wrote: 6-grams that occur twice in a row of text (METHODS section 5, figure 9).

    ... A0 A1 A2 A3 A4 A5 B ... A0 A1 A2 A3 A4 A5 X ...

A0..A5 are distinct, allowed tokens; the 6-gram occurs exactly twice, with at least one token between. Both occurrences
are laid over each other: offset k is A_k, offset 6 is B or X.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.apply import intervened
from analysis.frequency import Unigram
from analysis.induction.clipped import clip_rule, moved_resid
from analysis.induction.curves import Curve, curve, metric_curves
from analysis.induction.differences import Differences, weighted
from analysis.induction.measure import Measured, RowMetrics, measure, row_metrics
from analysis.model import Model
from analysis.progress import Steps
from analysis.types import InputError, Intervention, NeuronId

GRAM = 6
WINDOW = GRAM + 1


@dataclass(frozen=True, slots=True)
class Passage:
    """A row of ids (BOS included) in which a 6-gram starts at ``first`` and again at ``second``."""

    row: tuple[int, ...]
    first: int
    second: int

    @property
    def continued(self) -> bool:
        """Whether the second occurrence goes on as the first did (X is B)."""
        return self.row[self.first + GRAM] == self.row[self.second + GRAM]


def find(rows: Sequence[Sequence[int]], *, excluded: Collection[int]) -> Iterator[Passage]:
    """The first passage of every row that has one."""
    for row in rows:
        passage = _first_repeat(tuple(row), frozenset(excluded))
        if passage is not None:
            yield passage


def _first_repeat(row: tuple[int, ...], excluded: frozenset[int]) -> Passage | None:
    seen: dict[tuple[int, ...], list[int]] = {}
    for start in range(len(row) - GRAM + 1):
        gram = row[start : start + GRAM]
        if len(set(gram)) == GRAM and excluded.isdisjoint(gram):
            seen.setdefault(gram, []).append(start)
    for starts in seen.values():
        if len(starts) == 2 and starts[1] >= starts[0] + WINDOW and starts[1] + GRAM < len(row):
            return Passage(row, starts[0], starts[1])
    return None


@dataclass(frozen=True, slots=True)
class Aligned:
    """Curves over offsets 0..6, first and second occurrence, by metric (and by neuron)."""

    first: dict[str, Curve]
    second: dict[str, Curve]


@dataclass(frozen=True, slots=True)
class NaturalRepeats:
    """clean, clipped: aligned curves (clipped: those of the chosen neurons taken back; None without neurons).

    rules: m is the mean over A0..A5 of the first occurrence. differences: of every last-layer neuron over A0..A5.
    """

    passages: tuple[Passage, ...]
    clean: Aligned
    clipped: Aligned | None
    rules: tuple[Intervention, ...]
    differences: Differences


def natural_repeats(
    model: Model, passages: Sequence[Passage], *, neurons: Sequence[NeuronId] = (), unigram: Unigram | None = None
) -> Steps[NaturalRepeats]:
    """Run the passages and lay both occurrences over each other; ``neurons`` of the last layer are clipped together."""
    if not passages:
        raise InputError(
            "No 6-gram occurs twice in this text.", code="no_repeats", hint="Take a longer text, or repeat one."
        )
    measured = yield from measure(model, _padded(passages), neurons=neurons, unigram=unigram, stage="natural repeats")
    first, second = (_aligned_positions(passages, name).to(model.device) for name in ("first", "second"))
    found = weighted(
        model.readout, _mean_activations(measured, first[:, :GRAM]), _mean_activations(measured, second[:, :GRAM])
    )
    rules = tuple(clip_rule(neuron, found) for neuron in neurons if neuron.layer == model.last_layer)
    clipped = None
    if rules:
        resid = moved_resid(model.readout, measured, rules)
        moved = row_metrics(model.readout, resid, measured.tokens, unigram)
        clipped = Aligned(*(_curves(moved, measured, rules, where) for where in (first, second)))
    clean = Aligned(*(_curves(measured.metrics, measured, (), where) for where in (first, second)))
    return NaturalRepeats(tuple(passages), clean, clipped, rules, found)


def _padded(passages: Sequence[Passage]) -> Tensor:
    """Rows cut after X's successor and padded on the right, where nothing that is read can see it."""
    rows = [passage.row[: passage.second + WINDOW + 1] for passage in passages]
    length = max(map(len, rows))
    return torch.tensor([[*row, *[row[-1]] * (length - len(row))] for row in rows])


def _aligned_positions(passages: Sequence[Passage], name: str) -> Tensor:
    return torch.tensor([[getattr(passage, name) + offset for offset in range(WINDOW)] for passage in passages])


def _mean_activations(measured: Measured, where: Tensor) -> Float[Tensor, " d_mlp"]:
    rows = torch.arange(len(where), device=where.device)[:, None]
    return measured.activations[rows, where].double().mean((0, 1))


def _curves(found: RowMetrics, measured: Measured, rules: Sequence[Intervention], where: Tensor) -> dict[str, Curve]:
    by_rule = {rule.neuron: rule for rule in rules}
    curves = metric_curves(_gathered(found, where))
    for neuron, values in measured.watched.items():
        rule = by_rule.get(neuron)
        curves[str(neuron)] = curve((values if rule is None else intervened(rule, values, None)).gather(1, where))
    return curves


def _gathered(found: RowMetrics, where: Tensor) -> RowMetrics:
    values = {name: getattr(found, name) for name in RowMetrics.__slots__}
    gathered = {name: None if value is None else value.gather(1, where) for name, value in values.items()}
    return RowMetrics(**gathered)  # type: ignore[arg-type]
