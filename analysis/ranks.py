"""Rank correlation (Spearman 1904): Pearson's over ranks, equal values sharing their mean rank."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray


def ranks(values: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
    """From 1, the smallest first; equal values share their mean."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: ndarray = np.cumsum(counts) - (counts - 1) / 2
    return means[which]


def spearman(a: Float[ndarray, " n"], b: Float[ndarray, " n"]) -> float | None:
    """None for fewer than three pairs or a constant side."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])
