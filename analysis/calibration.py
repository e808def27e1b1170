"""Calibration of next-token predictions, clean and with last-layer neurons ablated together (paper, appendix; METHODS
9).

A prediction is the most probable token, its confidence the probability of that token. With B equal bins of confidence,
n_b tokens in bin b and gap_b = (n_b / n) (accuracy_b - confidence_b), the binned calibration error is

    ECE = sum_b |gap_b|                                            (Naeini et al. 2015)

It is biased upwards: each gap has noise, and its absolute value takes noise for error (Kumar, Liang and Ma 2019;
Roelofs et al. 2022). So the error is estimated as the one whose expected plain value is the plain value that was seen:

1. Noise: documents are resampled (rows of one document are not independent); replicate k leaves e_k = gap_k - gap.
2. Shape: the gaps shrunk towards their common value by as much as is noise (method of moments), with sum |s_b| = 1.
3. T_k(theta) = sum_b |theta s_b + e_kb| is what a model with the error theta would show. The estimate is the theta at
   which the mean over k of T_k is the plain value (0 where even T_k(0) is above it on average); the interval's ends are
   those at which it is the 2.5 % and the 97.5 % quantile: a test-inversion bootstrap interval (Carpenter 1999).

The error of one run minus that of another is estimated in the same way, over the same replicates: paired.

The Brier score is the mean over tokens of sum_t (P(t) - [t is next])².
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from analysis.predictions import Tokens
from analysis.sweep.plan import replicate_weights

REPLICATES = 200


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """plain: Naeini's. value: corrected for its bias; low, high: its 95 % interval. again: (replicate), what would be
    estimated on another draw of the documents. With one document nothing is known of the noise: value is plain, the
    interval NaN."""

    plain: float
    value: float
    low: float
    high: float
    again: ndarray


@dataclass(frozen=True, slots=True)
class Calibration:
    """One run. edges: (bins + 1); count, confidence, accuracy: a number a bin, NaN where it is empty."""

    name: str
    edges: ndarray
    count: ndarray
    confidence: ndarray
    accuracy: ndarray
    error: CalibrationError
    brier: float
    loss: float
    entropy: float
    overall_accuracy: float


class Sums:
    """What the calibration of one run needs of its tokens, added up row by row: by bin the number of tokens, their
    confidences and right predictions, over all documents and in every replicate; a document's rows count together."""

    def __init__(self, name: str, bins: int, *, seed: int = 0, replicates: int = REPLICATES) -> None:
        self.name, self.bins, self.seed = name, bins, seed
        self.totals = np.zeros((3, bins))
        self.drawn = np.zeros((3, replicates, bins))
        self.documents: set[int] = set()
        self._brier = self._loss = self._entropy = 0.0

    @property
    def n_tokens(self) -> int:
        return int(self.totals[0].sum())

    def add(self, tokens: Tokens, document: int) -> None:
        """The tokens of one more row of a document."""
        if not len(tokens.loss):
            return
        which = np.clip(np.ceil(tokens.confidence * self.bins).astype(int) - 1, 0, self.bins - 1)  # (low, high]
        values = (None, tokens.confidence, tokens.correct)
        here = np.stack([np.bincount(which, value, self.bins) for value in values])
        self.totals += here
        self.drawn += here[:, None] * replicate_weights(self.seed, document, self.drawn.shape[1])[:, None]
        self.documents.add(document)
        self._brier += float(tokens.brier.sum())
        self._loss += float(tokens.loss.sum())
        self._entropy += float(tokens.entropy.sum())

    def result(self) -> Calibration:
        """Reliability, the calibration error with its interval, and the averages."""
        count, confidence, correct = self.totals
        full = np.where(count > 0, count, np.nan)
        n = self.n_tokens
        return Calibration(
            name=self.name,
            edges=np.linspace(0, 1, self.bins + 1),
            count=count.astype(int),
            confidence=confidence / full,
            accuracy=correct / full,
            error=calibration_error(self.totals, self.drawn, len(self.documents)),
            brier=self._brier / n,
            loss=self._loss / n,
            entropy=self._entropy / n,
            overall_accuracy=float(correct.sum()) / n,
        )


GRID = np.concatenate([[0.0], np.geomspace(0.02, 1.0, 30)])
"""Errors that are tried, as shares of the largest that could explain what was seen."""


def calibration_error(
    totals: Float64[ndarray, "3 bins"], drawn: Float64[ndarray, "3 replicate bins"], n: int
) -> CalibrationError:
    """The corrected error and its interval, as above. totals: number of tokens, confidences and right predictions by
    bin; drawn: the same in every replicate of the n documents."""
    share, gap = totals[0] / totals[0].sum(), (totals[2] - totals[1]) / totals[0].sum()
    plain = float(np.abs(gap).sum())
    usable = drawn[0].sum(-1) > 0
    if n < 2 or usable.sum() < 2:
        return CalibrationError(plain, plain, np.nan, np.nan, np.full(drawn.shape[1], np.nan))
    again = (drawn[2] - drawn[1])[usable] / drawn[0][usable].sum(-1, keepdims=True)
    noise = (again - gap) * np.sqrt(n / (n - 1))  # replicates of n documents vary by (n - 1)/n of what draws of n do
    shape = _shape(gap, share, noise)
    tried = GRID * 2.2 * (plain + 3 * float(noise.sum(1).std()))
    seen = np.abs(tried[:, None, None] * shape + noise).sum(-1)  # (tried, replicate)
    mean: ndarray = seen.mean(1)
    low, high = np.quantile(seen, [0.025, 0.975], axis=1)
    value = float(_where(mean, tried, plain))
    other = np.full(drawn.shape[1], np.nan)
    other[usable] = _where(mean, tried, np.abs(value * shape + noise).sum(-1))
    return CalibrationError(plain, value, float(_where(high, tried, plain)), float(_where(low, tried, plain)), other)


def _shape(
    gap: Float64[ndarray, " bins"], share: Float64[ndarray, " bins"], noise: Float64[ndarray, "replicate bins"]
) -> Float64[ndarray, " bins"]:
    """How the error lies over the bins: each bin's accuracy - confidence d_b, shrunk towards their mean d by
    tau² / (tau² + var_b), with tau² the variance of the true d_b by the method of moments."""
    held = share > 0
    width = np.where(held, share, 1.0)
    d, variance = np.where(held, gap / width, 0.0), np.where(held, noise.var(0) / width**2, 0.0)
    mean = (share * d).sum()
    tau = max(0.0, float((share * ((d - mean) ** 2 - variance)).sum() + noise.sum(1).var()))
    shrunk = share * (mean + (d - mean) * tau / np.maximum(tau + variance, 1e-300))
    size = np.abs(shrunk).sum()
    found: ndarray = shrunk / size if size > 0 else share
    return found


def _where(curve: Float64[ndarray, " tried"], tried: Float64[ndarray, " tried"], seen: Any) -> Any:
    """The error at which a rising curve reaches what was seen; 0 where it starts above it."""
    rising = np.maximum.accumulate(curve)
    return np.where(seen <= rising[0], 0.0, np.interp(seen, rising, tried))


def difference(run: CalibrationError, clean: CalibrationError) -> tuple[float, float, float]:
    """(run - clean, low, high): the change of the error and its 95 % interval, both over the same documents."""
    pairs = run.again - clean.again
    known = pairs[np.isfinite(pairs)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) > 1 else (np.nan, np.nan)
    return run.value - clean.value, float(low), float(high)
