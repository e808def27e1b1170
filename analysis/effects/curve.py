"""Smooth functions of one scalar, read off a polynomial through a few exact points.

Where only the LN scale changes, everything is a function of s/s' alone, and thousands of neurons share one curve a
token: some twenty passes over the vocabulary in place of thousands. The curves are analytic, so Chebyshev interpolation
converges geometrically; its last coefficients tell whether it has.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import numpy as np
from numpy.polynomial import chebyshev

DEGREES = (12, 24, 48)
"""Tried in turn; a curve that the last does not catch is not smooth enough for this."""

Values = Callable[[np.ndarray], np.ndarray]
"""Points (k,) to values (m, k)."""


class Curves:
    """m functions on [low, high], interpolated together. ``converged`` is False where no degree sufficed."""

    def __init__(self, values: Values, low: float, high: float, *, tolerance: float) -> None:
        """tolerance: of the last coefficients, relative to the largest or to 1."""
        self._middle, self._half = (high + low) / 2, max((high - low) / 2, 1e-300)
        self.converged = False
        for degree in DEGREES:
            points = chebyshev.chebpts1(degree + 1)
            sampled = values(self._middle + self._half * points)
            self.coefficients = np.linalg.solve(chebyshev.chebvander(points, degree), sampled.T)  # (degree + 1, m)
            size = np.abs(self.coefficients)
            if size[-3:].max() <= tolerance * max(size.max(), 1.0):
                self.converged = True
                return

    def of(self, which: np.ndarray) -> Curves:
        """Only some of the functions."""
        some = copy(self)
        some.coefficients = self.coefficients[:, which]
        return some

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Values (m, len(x)) at x."""
        return np.asarray(chebyshev.chebval((x - self._middle) / self._half, self.coefficients))

    def each(self, x: np.ndarray, *, derivative: int = 0) -> np.ndarray:
        """Every curve, or its derivative, at its own x (m,)."""
        coefficients = chebyshev.chebder(self.coefficients, derivative) / self._half**derivative
        return np.asarray(chebyshev.chebval((x - self._middle) / self._half, coefficients, tensor=False))
