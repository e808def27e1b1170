"""What a caption may say of drawn tokens: numbers with their 95 % bootstrap intervals, and no sign that the interval
leaves open. Rows are resampled whole: tokens of one row are not independent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from analysis.grammar import printed
from analysis.ranks import ranks
from analysis.sweep.plan import replicate_weights
from analysis.sweep.result import interval

REPLICATES = 400


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number over n tokens with its interval; NaN where there are too few rows for one."""

    value: float
    low: float
    high: float
    n: int

    @property
    def sign(self) -> int:
        """1, -1, or 0 where the interval holds 0 or there is none."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    def told(self, form: str) -> str:
        """The interval in words."""
        if not np.isfinite(self.low):
            return "no interval: too few rows"
        return f"95 % interval {printed(self.low, form)} to {printed(self.high, form)}"


def mean(values: Float[ndarray, " n"], rows: Int[ndarray, " n"]) -> Estimate | None:
    """Of the known values; None where there are none."""
    known = np.isfinite(values)
    return _resampled(lambda weights: weights @ values[known] / weights.sum(-1), rows[known])


def correlation(a: Float[ndarray, " n"], b: Float[ndarray, " n"], rows: Int[ndarray, " n"]) -> Estimate | None:
    """Pearson's r over the pairs that are known; None for fewer than three or a side that does not vary."""
    known = np.isfinite(a) & np.isfinite(b)
    x, y = a[known].astype(float), b[known].astype(float)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None

    def r(weights: Float[ndarray, "draw n"]) -> Float[ndarray, " draw"]:
        n = weights.sum(-1)
        dx, dy = (v - (weights @ v / n)[..., None] for v in (x, y))
        products = [(weights * u * v).sum(-1) for u, v in ((dx, dy), (dx, dx), (dy, dy))]
        found: ndarray = products[0] / np.sqrt(products[1] * products[2])
        return found

    return _resampled(r, rows[known])


def rank_correlation(a: Float[ndarray, " n"], b: Float[ndarray, " n"], rows: Int[ndarray, " n"]) -> Estimate | None:
    """Spearman's, likewise; ranks among all pairs."""
    known = np.isfinite(a) & np.isfinite(b)
    return correlation(ranks(a[known]), ranks(b[known]), rows[known])


def hedging(before: Float[ndarray, " n"], change: Float[ndarray, " n"], rows: Int[ndarray, " n"]) -> str:
    """What ablation does to the loss where it is small and where it is large, and what that makes of the neuron."""
    known = np.isfinite(before) & np.isfinite(change)
    if known.sum() < 2:
        return ""
    low = before <= np.median(before[known])
    halves = [mean(change[which], rows[which]) for which in (known & low, known & ~low)]
    small, large = halves
    if small is None or large is None:
        return ""
    senses = {
        (-1, 1): "it hedges, which costs where the model is right and saves where it is wrong",
        (1, -1): "it sharpens, which saves where the model is right and costs where it is wrong",
        (1, 1): "it lowers the loss in both",
        (-1, -1): "it raises the loss in both",
    }
    sense = senses.get((small.sign, large.sign), "what it does differently in the two is not clear from these tokens")
    return (
        f" Ablating it changes the loss by {printed(small.value, '+.4g')} nats in the half of the tokens with the "
        f"smaller loss ({small.told('+.4g')}) and by {printed(large.value, '+.4g')} in the other "
        f"({large.told('+.4g')}): here {sense}."
    )


def _resampled(
    statistic: Callable[[Float[ndarray, "draw n"]], Float[ndarray, " draw"]], rows: Int[ndarray, " n"]
) -> Estimate | None:
    """A statistic of weighted tokens, and its interval over resampled rows."""
    if not len(rows):
        return None
    names, which = np.unique(rows, return_inverse=True)
    drawn = np.stack([replicate_weights(0, int(row), REPLICATES) for row in names], 1)[:, which].astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        value, again = float(statistic(np.ones((1, len(rows))))[0]), statistic(drawn)
    low, high = interval(again[:, None]) if len(names) > 1 else (np.full(1, np.nan), np.full(1, np.nan))
    return Estimate(value, float(low[0]), float(high[0]), len(rows))
