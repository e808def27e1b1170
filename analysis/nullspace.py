"""The effective null space of the unembedding, and how much of a vector lies in it (METHODS section 2; paper section
3.2).

    U, S, Vh = svd(W_U);  V0 = the last k columns of U;  rho = ‖V0ᵀ w‖ / ‖w‖

k is the knee of the spectrum: the first j >= d/2 with S[j] / S[j+1] > 1.5 gives k = d - 1 - j (0-based, the
direction that centring makes trivial in LayerNorm models included but never taken for the knee). The singular values
that matter are the smallest, so the Gram matrix, which squares them, is not used: W_Uᵀ = QR in blocks of tokens, in
float64, and the SVD of R.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.readout import Readout
from analysis.types import InputError

KNEE_RATIO = 1.5
FALLBACK_SHARE = 0.01
"""Without a knee: about 1 % of d_model, as in the paper (12 of 768 in GPT-2 Small, 40 of 4096 in LLaMA-2-7B)."""

ZERO = 1e-12
"""Singular values below this share of the largest are rounding, not weights."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The SVD of ``W_U``. U: columns live in the residual stream, by falling singular value; float64.

    knee: the index j of the last singular value before the fall, None where there is none. trivial: whether one
    direction is null by construction (centring, in LayerNorm models).
    """

    U: Float[Tensor, "d_model d_model"]
    S: Float[Tensor, " d_model"]
    knee: int | None
    trivial: bool

    @property
    def d_model(self) -> int:
        return len(self.S)

    @property
    def k(self) -> int:
        """The default dimension of the null space."""
        if self.knee is not None:
            return self.d_model - 1 - self.knee
        return max(1, round(FALLBACK_SHARE * self.d_model))

    def chosen(self, k: int | None) -> int:
        """``k``, or the default; InputError where it is no dimension."""
        if k is None:
            return self.k
        if not 1 <= k <= self.d_model:
            raise InputError(f"k is {k}; it must lie between 1 and d_model = {self.d_model}.", code="invalid_k")
        return k

    def basis(self, k: int) -> Float[Tensor, "d_model k"]:
        """V0."""
        return self.U[:, self.d_model - k :]


def triangle(W_U: Float[Tensor, "d_model d_vocab"]) -> Iterator[Float[Tensor, "rank d_model"]]:
    """R of W_Uᵀ = QR, a block of tokens a step; the last one yielded is the whole. Memory: a few d_model² in
    float64."""
    d_model = W_U.shape[0]
    R = W_U.new_zeros(0, d_model, dtype=torch.float64)
    for part in torch.split(W_U, max(2 * d_model, 512), dim=1):
        R = _triangular(torch.cat([R, part.T.double()]))
        yield R


def _triangular(rows: Float[Tensor, "n d_model"]) -> Float[Tensor, "rank d_model"]:
    R: Tensor = torch.linalg.qr(rows, mode="r").R
    return R


def uncentred_triangle(R: Float[Tensor, "rank d_model"], readout: Readout) -> Float[Tensor, "rank2 d_model"]:
    """R of the same unembedding without centring over the vocabulary: W Wᵀ gains d_vocab m mᵀ, m the mean column."""
    extra = readout.vocab_mean_W.to(R)[None] * readout.d_vocab**0.5
    return _triangular(torch.cat([R, extra]))


def decompose(R: Float[Tensor, "rank d_model"], *, trivial: bool) -> Spectrum:
    """The spectrum from R (on the CPU: one small SVD)."""
    _, S, Vh = torch.linalg.svd(R.cpu(), full_matrices=True)
    d_model = R.shape[1]
    values = torch.zeros(d_model, dtype=torch.float64)
    values[: len(S)] = S
    return Spectrum(Vh.T.contiguous(), values, knee(values, trivial=trivial), trivial)


def spectrum(readout: Readout) -> Spectrum:
    """The whole of it at once."""
    *_, R = triangle(readout.W_U)
    return decompose(R, trivial=readout.centred)


def knee(S: Float[Tensor, " d_model"], *, trivial: bool) -> int | None:
    """The first j >= d/2 where the spectrum falls by more than 1.5; the zero that centring makes does not count."""
    values = S.tolist()
    floor = ZERO * values[0]
    last = len(values) - (2 if trivial else 1)  # the last index that may stand on the right of the ratio
    for j in range((len(values) + 1) // 2, last):
        if values[j] <= floor:
            return None
        if values[j + 1] <= floor or values[j] / values[j + 1] > KNEE_RATIO:
            return j
    return None


def rho(rows: Float[Tensor, "n d_model"], basis: Float[Tensor, "d_model k"]) -> Float[Tensor, " n"]:
    """Share of each row's length in the null space, float64; NaN for a zero row."""
    exact = rows.double()
    inside: Tensor = (exact @ basis.to(rows.device)).norm(dim=1)
    length: Tensor = exact.norm(dim=1)
    return inside / length


def cosines(row: Float[Tensor, " d_model"], spectrum: Spectrum) -> Float[Tensor, " d_model"]:
    """abs(Uᵀ w) / ‖w‖: one number a singular vector, whose squares sum to 1."""
    exact = row.double().cpu()
    found: Tensor = (exact @ spectrum.U).abs() / exact.norm()
    return found


def share(matrix: Float[Tensor, "n d_model"], basis: Float[Tensor, "d_model k"]) -> float:
    """‖W V0‖² / ‖W‖² of everything that some rows write: a head, an embedding."""
    inside = total = 0.0
    for part in torch.split(matrix, 8192):
        exact = part.double()
        inside += float((exact @ basis.to(part.device)).square().sum())
        total += float(exact.square().sum())
    return inside / total if total > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class Chance:
    """rho of random directions. rms: sqrt(E[rho²]). maximum: the mean of the largest among ``n`` draws; low and
    high: its central 90 %."""

    rms: float
    maximum: float
    low: float
    high: float
    n: int


@lru_cache(256)
def chance(d_model: int, k: int, n: int, *, trivial: bool, seed: int = 0) -> Chance:
    """rho² of a random direction is Beta(k/2, (d-k)/2); with the trivial direction taken out Beta((k-1)/2, (d-k)/2)."""
    inside, outside = k - trivial, d_model - k
    if inside <= 0 or outside <= 0:
        value = 0.0 if inside <= 0 else 1.0
        return Chance(value, value, value, value, n)
    draws = np.random.default_rng(seed).beta(inside / 2, outside / 2, size=(max(20, min(400, 4_000_000 // n)), n))
    largest = np.sqrt(draws.max(axis=1))
    low, high = np.quantile(largest, [0.05, 0.95])
    rms = (inside / (inside + outside)) ** 0.5
    return Chance(rms, float(largest.mean()), float(low), float(high), n)


def random_rows(
    norms: Float[Tensor, " n"], d_model: int, *, centred: bool, seed: int = 0
) -> Float[Tensor, "n d_model"]:
    """Norm-matched controls: directions drawn at random, centred where the model's write rows are, with these norms."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(len(norms), d_model, generator=generator, dtype=torch.float64)
    rows = rows - rows.mean(1, keepdim=True) if centred else rows
    lengths: Tensor = rows.norm(dim=1, keepdim=True)
    return rows / lengths * norms.double().cpu()[:, None]
