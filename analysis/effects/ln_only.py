"""The LN-only condition for any number of neurons at the price of some twenty: it depends on s/s' alone.

    z'_ln = (s/s') (z - b_U) + b_U

so log-partition, mean and products are curves over s/s', one set a position, whatever moved the scale.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.effects.clean import Clean, exact
from analysis.effects.curve import Curves
from analysis.kernels import Sums
from analysis.readout import Readout

FEWEST = 16
"""Below this many neurons the pass over the vocabulary for each is cheaper."""

TOLERANCE = 1e-10
MARGIN = 0.25
"""A curve is made this much wider than was asked for, so that the next block of neurons falls into it too."""


class LnOnly:
    """The curves of a clean run's positions, made when first needed and widened when a ratio lies outside."""

    def __init__(self, readout: Readout, clean: Clean, functionals: Float[Tensor, "f pos vocab"] | None) -> None:
        self._readout, self._clean, self._functionals = readout, clean, functionals
        self._curves: list[tuple[float, float, Curves] | None] = [None] * len(clean.targets)

    def sums(self, after: Float[Tensor, "pos n"]) -> Sums | None:
        """What a kernel would give for the new scales ``after``; None where a kernel should be asked."""
        if after.shape[1] < FEWEST:
            return None
        ratios = (self._clean.s[:, None] / after).cpu().numpy()
        values = []
        for pos, ratio in enumerate(ratios):
            curves = self._covering(pos, float(ratio.min()), float(ratio.max()))
            if not curves.converged:
                return None
            values.append(torch.from_numpy(curves(ratio)))
        stacked = torch.stack(values, 1).to(after.device)
        return Sums(stacked[0], stacked[1], None, stacked[2:] if self._functionals is not None else None)

    def _covering(self, pos: int, low: float, high: float) -> Curves:
        known = self._curves[pos]
        if known is None or low < known[0] or high > known[1]:
            if known is not None:
                low, high = min(low, known[0]), max(high, known[1])
            margin = MARGIN * (high - low)
            low, high = max(low - margin, low / 2), high + margin
            known = (low, high, Curves(lambda x: self._at(pos, x), low, high, tolerance=TOLERANCE))
            self._curves[pos] = known
        return known[2]

    def _at(self, pos: int, ratios: np.ndarray) -> np.ndarray:
        """log-partition, mean and products at some ratios s/s', from float64 passes over the vocabulary."""
        clean, capped = self._clean, self._readout.soft_cap is not None
        pre = exact(clean.pre[pos])
        scaled = exact(clean.bases[0, pos]) / clean.s[pos]
        if clean.B is not None:
            scaled = scaled + exact(clean.bases[1, pos]) / (clean.s[pos] * clean.r[pos])
        u = pre + torch.from_numpy(ratios - 1).to(pre.device)[:, None] * scaled
        if capped:
            u = self._readout.cap(u) - clean.log_partition[pos]
        log_partition = u.logsumexp(-1)
        mean = ((u - log_partition[:, None]).exp() * u).sum(-1)
        rows = [log_partition[None], mean[None]]
        if self._functionals is not None:
            rows.append(exact(self._functionals[:, pos]) @ u.T)
        return np.asarray(torch.cat(rows).cpu().numpy())
