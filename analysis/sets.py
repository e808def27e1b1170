"""Which neurons of a sweep stand out, by its own evidence (METHODS sections 2 to 4). These sets are no labels.

    strongest LN-mediated effect          largest TE - DE, among the neurons whose rho exceeds chance
    strongest frequency-mediated effect   largest TE - DE_freq, among those whose alignment with the frequency direction
                                          exceeds chance, in absolute value

Chance is what the best of as many random directions reaches. Only effects above 0 count. A set may be smaller than was
asked for, or empty: "none found" is an answer. The sets are chosen on the one half of the sweep's documents; what is
shown of them is the other half's (`analysis.sweep.result`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from analysis.sweep import Result
from analysis.sweep.result import CHOOSING, SHOWING, Halves

Path = Literal["direct", "frequency"]
"""What a set's effect goes through, by the condition in which that is frozen: the LN scale, the frequency component."""

NAMES: dict[Path, str] = {
    "direct": "strongest LN-mediated effect",
    "frequency": "strongest frequency-mediated effect",
}


@dataclass(frozen=True)
class Sets:
    """A sweep with what its neurons' weights say. weights: norm, logit_var, rho, frequency_alignment, a number a
    neuron of the sweep; chance_rho, chance_alignment: the largest among random directions."""

    result: Result
    weights: Mapping[str, ndarray]
    chance_rho: float
    chance_alignment: float

    @property
    def halves(self) -> Halves | None:
        """None where sets can only be shown on what they were chosen by: a single row, a result of an earlier
        version."""
        halves = self.result.halves
        return halves if halves is not None and all(halves.rows) else None

    def chosen_by(self, name: str) -> Float[ndarray, " n"]:
        """A column of the half to choose by; NaN where there is none."""
        return self._column((CHOOSING if self.halves else "") + name)

    def shown(self, name: str) -> Float[ndarray, " n"]:
        """A column of the weights, or of the half to show; NaN where there is none."""
        return self.weights[name] if name in self.weights else self._column((SHOWING if self.halves else "") + name)

    def _column(self, name: str) -> ndarray:
        missing = np.full(len(self.result.neurons), np.nan)
        found: ndarray = self.result.table.get(name, missing)
        return found

    def mediated(self, path: Path) -> Float[ndarray, " n"]:
        """The effect on the loss that goes through ``path``, nats, on the half to choose by."""
        found: ndarray = self.chosen_by("total.abs_loss") - self.chosen_by(f"{path}.abs_loss")
        return found

    def chance(self, path: Path) -> float:
        return self.chance_rho if path == "direct" else self.chance_alignment

    def beyond_chance(self, path: Path) -> Bool[ndarray, " n"]:
        """Whether a neuron's rho, or alignment, exceeds chance; never where either is unknown."""
        size = self.weights["rho"] if path == "direct" else np.abs(self.weights["frequency_alignment"])
        found: ndarray = size > self.chance(path)
        return found

    def ranked(self, path: Path) -> list[int]:
        """Every neuron whose effect is known, the largest effect through ``path`` first."""
        effect = self.mediated(path)
        order = np.argsort(-np.nan_to_num(effect, nan=-np.inf), kind="stable")
        return [int(place) for place in order if np.isfinite(effect[place])]

    def strongest(self, path: Path, top: int) -> list[int]:
        """The places of the set, at most ``top``; none where none qualifies."""
        beyond, effect = self.beyond_chance(path), self.mediated(path)
        return [place for place in self.ranked(path) if beyond[place] and effect[place] > 0][:top]

    def one(self) -> tuple[int, str]:
        """The neuron that is shown where none is named, and what it is: the first of the strongest LN-mediated, or
        where there is none the largest effect on entropy."""
        if strongest := self.strongest("direct", 1):
            return strongest[0], f"the one with the {NAMES['direct']}"
        effect = np.nan_to_num(self.chosen_by("total.abs_entropy"), nan=-np.inf)
        return int(
            np.argmax(effect)
        ), "the one with the largest effect on entropy (none has an LN-mediated effect beyond chance)"
