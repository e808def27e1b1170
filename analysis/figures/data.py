"""What a sweep's figures are drawn from: its sets of neurons, their controls, and the marks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from analysis.controls import N_CONTROLS
from analysis.figures.controls import ControlEffects
from analysis.grammar import printed
from analysis.sets import NAMES, Path, Sets
from analysis.sweep import Result
from analysis.types import NotFoundError

BEST: dict[Path, str] = {
    "direct": "the best of as many random directions",
    "frequency": "the best of the atlas' random directions",
}
Controls = Callable[[list[int], Path], ControlEffects | None]


@dataclass(frozen=True, slots=True)
class Point:
    """One mark; NaN where a number is not known. neuron: the one it stands for, where it is one. x: of a box or bar
    its name."""

    series: str
    label: str
    x: float | str
    y: float
    colour: float | None = None
    low: float | None = None
    high: float | None = None
    neuron: str | None = None
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure as data. colour_centred: a scale that is symmetric about 0."""

    title: str
    caption: str
    kind: Literal["scatter", "box", "lines", "bars"]
    x: str
    y: str
    rows: Sequence[Point]
    x_log: bool = False
    y_log: bool = False
    colour: str | None = None
    colour_centred: bool = False
    diagonal: bool = False
    notes: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Dropout:
    """The spectra of W_U, (2, d_model), of one recipe trained without and with dropout on as many tokens."""

    spectra: Float[ndarray, "2 d_model"]
    tokens: int


@dataclass(frozen=True)
class Ground:
    """What figures are drawn from. top: neurons in a set; asked: the neuron of the figures that are of one.

    singular: of W_U; cosines(place): of one neuron with each singular vector; direction(place): of a control of its.
    labelled: the places that carry the label "entropy"; None where the sweep cannot speak for labels. controls: the
    effects of a set's controls; dropout: the appendix runs; null_space: what is said of it.
    """

    sets: Sets
    k: int
    top: int
    asked: str | None
    singular: Float[ndarray, " d_model"]
    cosines: Callable[[int], Float[ndarray, " d_model"]]
    direction: Callable[[int], Float[ndarray, " d_model"]]
    controls: Controls
    labelled: frozenset[int] | None = None
    dropout: Dropout | None = None
    null_space: str = ""

    @property
    def result(self) -> Result:
        return self.sets.result

    def column(self, name: str) -> Float[ndarray, " n"]:
        return self.sets.shown(name)

    def name(self, place: int) -> str:
        return str(self.result.neurons[place])

    @cached_property
    def ln_mediated(self) -> list[int]:
        return self.sets.strongest("direct", self.top)

    @cached_property
    def frequency_mediated(self) -> list[int]:
        return self.sets.strongest("frequency", self.top)

    def set_of(self, path: Path) -> list[int]:
        return self.ln_mediated if path == "direct" else self.frequency_mediated

    @cached_property
    def neuron(self) -> tuple[int, str]:
        """The place of the one neuron shown, and why it is; NotFoundError for one that is not in the sweep."""
        if self.asked is None:
            return self.sets.one()
        names = {str(neuron): place for neuron, place in self.result.place.items()}
        if self.asked not in names:
            raise NotFoundError(f"{self.asked} is not in this sweep.", code="no_such_neuron")
        return names[self.asked], "the one that was asked for"

    @cached_property
    def showing(self) -> Bool[ndarray, " token"]:
        """Which drawn tokens are not of the half that sets and the one neuron were chosen on."""
        halved = self.sets.halves is not None and self.result.sample_showing is not None
        found = self.result.sample_showing if halved else None
        return np.ones(len(self.result.sample_at), dtype=bool) if found is None else found

    @cached_property
    def of_neuron(self) -> Bool[ndarray, " token"]:
        """Which drawn tokens the one neuron is shown at: all, where it was not the sweep that chose it."""
        return self.showing if self.asked is None else np.ones_like(self.showing)

    @property
    def rows_drawn(self) -> Int[ndarray, " token"]:
        """The row of each drawn token."""
        found: ndarray = self.result.sample_at[:, 0]
        return found

    # what is said of a set

    def of_halves(self) -> str:
        """What was chosen where, and shown where; empty where the sweep cannot be halved."""
        halves = self.sets.halves
        if halves is None:
            return ""
        return f"chosen on {halves.units[0]} {halves.unit} and shown on the other {halves.units[1]}"

    def told(self, path: Path, word: str = "Marked") -> str:
        """Who is marked, by what they were chosen and where they are shown."""
        chosen, what = self.set_of(path), NAMES[path]
        quantity = "ρ" if path == "direct" else "|alignment|"
        beyond = f"{quantity} beyond chance ({self.sets.chance(path):.3f}, {BEST[path]})"
        if np.isnan(self.sets.chance(path)):
            return "Nothing is marked: without token counts no alignment is known."
        if not chosen:
            effect = what.removeprefix("strongest ")
            return f"None found: no neuron has both {'an' if effect.startswith('LN') else 'a'} {effect} and {beyond}."
        one = len(chosen) == 1
        text = f"{word}: {'the neuron' if one else f'the {len(chosen)} neurons'} with the {what} and {beyond}"
        text += f", {self.of_halves() or 'chosen by the same rows that are shown'}."
        if path == "direct" and self.labelled is not None:
            n = len(self.labelled & set(chosen))
            text += f" {n or 'None'} of {len(chosen)} {'carry' if n != 1 else 'carries'} the label entropy neuron."
        return text

    def standings(self, path: Path) -> list[str]:
        """A line a neuron of the set: its effect among its controls."""
        chosen = self.set_of(path)
        effects = self.controls(chosen, path) if chosen else None
        if effects is None:
            return ["There are no controls: they need a finished sweep of this version, of last-layer neurons with one "
                    "baseline each."] if chosen else []  # fmt: skip
        lines = []
        for index, place in enumerate(chosen):
            stands = effects.standing(index)
            p = "" if stands.p is None else f", p = {stands.p:.3f}"
            lines.append(
                f"{self.name(place)}: mediated effect {printed(stands.value, '.4g')} nats, rank {stands.rank} of "
                f"{stands.of} beside {N_CONTROLS} random directions of its norm, {effects.norms[index]:.3g} "
                f"({printed(stands.low, '.4g')} to {printed(stands.high, '.4g')}){p}, at {effects.own.shape[-1]} drawn "
                "tokens."
            )
        return lines

    # marks

    def scatter(self, x: str, y: str, colour: str | None, path: Path) -> list[Point]:
        """One mark a neuron, the set's marked and drawn last."""
        xs, ys, chosen = self.column(x), self.column(y), self.set_of(path)
        colours = self.column(colour) if colour else None
        order = [i for i in range(len(xs)) if i not in chosen] + chosen
        return [
            Point(
                series=NAMES[path] if i in chosen else "other neurons",
                label=self.name(i),
                x=float(xs[i]),
                y=float(ys[i]),
                colour=None if colours is None else float(colours[i]),
                neuron=self.name(i),
                marked=i in chosen,
            )
            for i in order
        ]

    def tokens(self, x: ndarray, y: ndarray, colour: ndarray | None = None, *, where: ndarray) -> list[Point]:
        """One mark a drawn token of those that ``where`` says."""
        at = self.result.sample_at
        return [
            Point(
                series="tokens",
                label=f"row {at[i, 0]}, position {at[i, 1]}",
                x=float(x[i]),
                y=float(y[i]),
                colour=None if colour is None else float(colour[i]),
            )
            for i in where.nonzero()[0]
        ]

    def boxes(self, series: tuple[str, str], path: Path) -> list[Point]:
        """|Δ loss| token by token, total and with the path frozen: a box for each neuron of the set, and one for its
        controls, at each token another of them."""
        chosen = self.set_of(path)
        effects = self.controls(chosen, path) if chosen else None
        points = []
        for place in chosen:
            for name, field_ in zip(series, ("total.loss", f"{path}.loss"), strict=True):
                values = np.abs(self.result.sampled(field_)[self.showing, place].astype(float))
                points += [Point(name, NAMES[path], self.name(place), float(value)) for value in values]
        for index, place in enumerate(chosen if effects is not None else ()):
            assert effects is not None
            token = np.arange(effects.others.shape[-1])
            for name, values in zip(series, effects.others[:, token % N_CONTROLS, index, token], strict=True):
                label = f"{self.name(place)} controls"
                points += [Point(name, "random directions of its norm", label, float(value)) for value in values]
        return points

    def bars(self, series: tuple[str, str], path: Path) -> list[Point]:
        """Mean |Δ loss| with its interval, total and with the path frozen; of a neuron's controls the median and the
        range."""
        chosen = self.set_of(path)
        effects = self.controls(chosen, path) if chosen else None
        points = []
        for index, place in enumerate(chosen):
            for which, (name, field_) in enumerate(zip(series, ("total.abs_loss", f"{path}.abs_loss"), strict=True)):
                value, low, high = (float(self.column(f"{field_}{end}")[place]) for end in ("", ".low", ".high"))
                own = self.name(place)
                points.append(Point(name, own, own, value, low=low, high=high, neuron=own))
                if effects is not None:
                    means = effects.others[which, :, index].mean(-1)
                    low, high = float(means.min()), float(means.max())
                    label = f"{own} controls"
                    points.append(Point(name, label, label, float(np.median(means)), low=low, high=high))
        return points
