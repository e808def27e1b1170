"""What a sweep's figures are drawn from: its numbers, the weights beside them, the sets of neurons and the marks.

Sets of neurons come from the sweep's own evidence (METHODS section 2: rank by evidence, never by norm alone):

    entropy neurons          largest LN-mediated effect, TE - DE, among those whose rho exceeds what the best of as many
                             random directions reaches (among all where none does)
    token-frequency neurons  largest frequency-mediated effect, TE - DE_freq
    controls                 for each of them the neuron nearest in norm among a seeded random half of the others
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.corpus import mix
from analysis.sweep import Result
from analysis.types import NotFoundError
from app.present.plain import number
from app.requests.sweep import FigureQuery
from app.views.sweep import Point

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Dropout:
    """The spectra of W_U, (2, d_model), of one recipe trained without and with dropout on as many tokens."""

    spectra: Array
    tokens: int


@dataclass(frozen=True)
class Ground:
    """What figures are drawn from. chance: the largest rho among random directions. weights: norm, logit_var, rho,
    frequency_alignment of the sweep's neurons;
    singular: of W_U; cosines(place): of one neuron with each singular vector; dropout: the appendix runs."""

    sweep: str
    model: str
    result: Result
    query: FigureQuery
    weights: dict[str, Array]
    k: int
    chance: float
    singular: Array
    cosines: Callable[[int], Array]
    dropout: Dropout | None = None

    def column(self, name: str) -> Array:
        """A column of the sweep, or of the weights; all NaN where there is none."""
        if name in self.weights:
            return self.weights[name]
        found: Array = self.result.table.get(name, np.full(len(self.result.neurons), np.nan))
        return found

    def name(self, place: int) -> str:
        return str(self.result.neurons[place])

    # sets

    def ranked(self, frozen: str) -> list[int]:
        """Every neuron, the largest effect mediated by what is frozen in that condition first."""
        mediated = np.nan_to_num(self.column("total.abs_loss") - self.column(f"{frozen}.abs_loss"), nan=-np.inf)
        order: list[int] = np.argsort(-mediated, kind="stable").tolist()
        return order

    def strongest(self, frozen: str) -> list[int]:
        """The set: of entropy neurons for "direct", of token-frequency neurons for "frequency"."""
        order = self.ranked(frozen)
        if frozen == "direct":
            order = [place for place in order if self.weights["rho"][place] > self.chance] or order
        return order[: self.query.top]

    def controls(self, chosen: list[int]) -> list[int]:
        """Norm-matched random neurons, one for each, none twice."""
        norm, n = self.weights["norm"], len(self.result.neurons)
        allowed = [int(i) for i in np.argsort(mix(self.query.seed, np.arange(n)), kind="stable") if i not in chosen]
        pool = allowed[: max(len(chosen), n // 2)]
        found: list[int] = []
        for place in chosen:
            free = [i for i in pool if i not in found]
            if free:
                found.append(min(free, key=lambda i: abs(norm[i] - norm[place])))
        return found

    @property
    def neuron(self) -> int:
        """The place of the one neuron asked for; the strongest entropy neuron by default."""
        if self.query.neuron is None:
            return self.strongest("direct")[0]
        names = {str(neuron): place for neuron, place in self.result.place.items()}
        if self.query.neuron not in names:
            raise NotFoundError(f"{self.query.neuron} is not in this sweep.", code="no_such_neuron")
        return names[self.query.neuron]

    # marks

    def scatter(self, x: str, y: str, colour: str | None, chosen: list[int], what: str) -> list[Point]:
        """One mark a neuron, the chosen ones marked and drawn last."""
        xs, ys = self.column(x), self.column(y)
        colours = self.column(colour) if colour else None
        order = [i for i in range(len(xs)) if i not in chosen] + chosen
        return [
            Point(
                series=what if i in chosen else "other neurons",
                label=self.name(i),
                x=number(xs[i]),
                y=number(ys[i]),
                colour=None if colours is None else number(colours[i]),
                href=f"/sweeps/{self.sweep}/neurons/{self.name(i)}",
                marked=i in chosen,
            )
            for i in order
        ]

    def tokens(self, x: Array, y: Array, colour: Array | None = None) -> list[Point]:
        """One mark a drawn token."""
        at = self.result.sample_at
        return [
            Point(
                series="tokens",
                label=f"row {at[i, 0]}, position {at[i, 1]}",
                x=number(x[i]),
                y=number(y[i]),
                colour=None if colour is None else number(colour[i]),
            )
            for i in range(len(at))
        ]

    def boxes(self, fields: dict[str, str], chosen: list[int], what: str) -> list[Point]:
        """Absolute per-token changes of chosen neurons and controls, one box a neuron and field."""
        points = []
        for kind, places in ((what, chosen), ("norm-matched random", self.controls(chosen))):
            for place in places:
                name = self.name(place) + ("" if kind == what else " (random)")
                for series, field in fields.items():
                    values = np.abs(self.result.sampled(field)[:, place].astype(float))
                    points += [Point(series=series, label=kind, x=name, y=number(value)) for value in values]
        return points
