"""The effective null space of the unembedding, and how much of a vector lies in it (METHODS section 2; paper section
3.2).

    U, S, Vh = svd(W_U);  V0 = the last k columns of U;  rho = ‖V0ᵀ w‖ / ‖w‖

k is the knee of the spectrum: the first j >= d/2 with S[j] / S[j+1] > 1.5 gives k = d - 1 - j (0-based, the
direction that centring makes trivial in LayerNorm models included but never taken for the knee). It is never less than
the dimension of the exact null space, which is large where the vocabulary is smaller than d_model. Equal singular
values have no directions of their own, only a common space, so no k may part them. The singular values that matter are
the smallest, so the Gram matrix, which squares them, is not used: W_Uᵀ = QR in blocks of tokens, in float64, and the
SVD of R.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis import interrupt
from analysis.progress import Progress, Steps
from analysis.readout import Readout
from analysis.types import InputError

KNEE_RATIO = 1.5
FALLBACK_SHARE = 0.01
"""Without a knee: about 1 % of d_model, as in the paper (12 of 768 in GPT-2 Small, 40 of 4096 in LLaMA-2-7B)."""

WEAK_FALL = 2.0
"""A knee that falls by less than this is said to be weak: 1.5 is a convention, and spectra without any null space come
near it."""

ZERO = 1e-12
"""Singular values below this share of the largest are rounding, not weights."""

ROUNDINGS = 8
"""Units of rounding that an entry of the folded ``W_U`` takes at most: scaled by the gain, centred over d_model and
over the vocabulary, each a mean and a difference."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The SVD of ``W_U``. U: columns live in the residual stream, by falling singular value; float64.

    S: 0 where nothing is left but rounding; of those directions the last is the trivial one. knee: the index j of the
    last singular value before the fall, None where there is none. trivial: whether one direction is null by
    construction (centring, in LayerNorm models). resolution: singular values that differ by no more are equal, their
    order and their directions made by rounding.
    """

    U: Float[Tensor, "d_model d_model"]
    S: Float[Tensor, " d_model"]
    knee: int | None
    trivial: bool
    resolution: float = 0.0

    @property
    def d_model(self) -> int:
        return len(self.S)

    @property
    def exact(self) -> int:
        """Dimension of the exact null space, the trivial direction included."""
        return int((self.S == 0).sum())

    @property
    def built_in(self) -> int:
        """Exact null directions that centring does not explain. Training leaves no singular value at zero to the last
        digit: the vocabulary is smaller than d_model, or dimensions of the unembedding are held at zero."""
        return max(0, self.exact - self.trivial)

    @property
    def k(self) -> int:
        """The default dimension of the null space: at the knee, else 1 % of d_model; never less than the exact null
        space, and enlarged where it would part equal singular values."""
        k = max(self.by_rule, self.exact)
        parted = self._parted(k)
        return k if parted is None else self.d_model - parted[0]

    @property
    def by_rule(self) -> int:
        """What lies behind the knee, else 1 % of d_model."""
        return max(1, round(FALLBACK_SHARE * self.d_model)) if self.knee is None else self.d_model - 1 - self.knee

    @property
    def k_share(self) -> int:
        """1 % of d_model, the other convention for k: what stands beside the knee's, which may be a single outlying
        singular value. Never less than the exact null space, and enlarged where it would part equal values."""
        k = max(1, round(FALLBACK_SHARE * self.d_model), self.exact)
        parted = self._parted(k)
        return k if parted is None else self.d_model - parted[0]

    @property
    def fall(self) -> float | None:
        """S[knee] / S[knee + 1]: infinite where it falls to zero, None without a knee."""
        if self.knee is None:
            return None
        before, after = float(self.S[self.knee]), float(self.S[self.knee + 1])
        return before / after if after > 0 else float("inf")

    @property
    def weak(self) -> bool:
        """Whether the knee is hardly one."""
        return self.fall is not None and self.fall < WEAK_FALL

    @property
    def largest_fall(self) -> tuple[int, float]:
        """(j, S[j] / S[j+1]) of the steepest place in the second half, between singular values that are not zero;
        (last such j, 1) where there is none."""
        kept = self.S[self.S > 0].tolist()
        falls = [(kept[j] / kept[j + 1], j) for j in range((self.d_model + 1) // 2, len(kept) - 1)]
        ratio, j = max(falls, default=(1.0, len(kept) - 1))
        return j, ratio

    def chosen(self, k: int | None) -> int:
        """``k``, or the default; InputError where it is no dimension, or parts equal singular values."""
        if k is None:
            return self.k
        if not 1 <= k <= self.d_model:
            raise InputError(f"k is {k}; it must lie between 1 and d_model = {self.d_model}.", code="invalid_k")
        if (parted := self._parted(k)) is not None:
            first, last = parted
            what = "all zero" if self.S[last] == 0 else f"all {self.S[last]:.6g}"
            smaller = self.d_model - 1 - last
            raise InputError(
                f"k = {k} parts {last - first + 1} equal singular values (S[{first}] to S[{last}], {what}): which of "
                "their directions it takes, and with them rho, would be left to rounding.",
                code="k_parts_equal_values",
                hint=f"Choose k = {self.d_model - first} or more{f', or {smaller} or less' if smaller else ''}.",
            )
        return k

    def _parted(self, k: int) -> tuple[int, int] | None:
        """First and last index of the equal singular values that a null space of dimension k has one half of."""
        cut = self.d_model - k
        return next(((first, last) for first, last in self.equal() if first < cut <= last), None)

    def equal(self) -> list[tuple[int, int]]:
        """First and last index of each run of equal singular values."""
        breaks = (self.S[:-1] - self.S[1:] > self.resolution).nonzero()[:, 0].tolist()
        runs = zip([0, *(j + 1 for j in breaks)], [*breaks, self.d_model - 1], strict=True)
        return [(first, last) for first, last in runs if first < last]

    def direction(self, index: int, towards: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
        """A singular direction, as a unit vector. Its sign is nobody's, nor is it one of its own among equal singular
        values: of all that it could be it is the one in which ``towards`` lies."""
        columns = self.U[:, index : index + 1]
        for first, last in self.equal():
            if first <= index <= last and not (self.trivial and index == self.d_model - 1):
                columns = self.U[:, first : last + (not (self.trivial and last == self.d_model - 1))]
        part: Tensor = columns @ (columns.T @ towards.to(columns))
        length = float(part.norm())
        return part / length if length > ZERO * float(towards.norm()) else self.U[:, index]

    def basis(self, k: int) -> Float[Tensor, "d_model k"]:
        """V0."""
        return self.U[:, self.d_model - k :]


def block_width(d_model: int) -> int:
    """Tokens a step of `triangle`."""
    return max(2 * d_model, 512)


def working_bytes(d_model: int) -> int:
    """What `spectrum` takes beside the readout, at most: a block with the triangle before it, their QR, the SVD, each
    some d_model² in float64."""
    return 8 * 16 * max(d_model, 256) ** 2


def triangle(W_U: Float[Tensor, "d_model d_vocab"]) -> Iterator[Float[Tensor, "rank d_model"]]:
    """R of W_Uᵀ = QR, a block of tokens a step; the last one yielded is the whole. Memory: a few d_model² in
    float64."""
    d_model = W_U.shape[0]
    R = W_U.new_zeros(0, d_model, dtype=torch.float64)
    for part in torch.split(W_U, block_width(d_model), dim=1):
        interrupt.check()
        R = _triangular(torch.cat([R, part.T.double()]))
        yield R


def _triangular(rows: Float[Tensor, "n d_model"]) -> Float[Tensor, "rank d_model"]:
    R: Tensor = torch.linalg.qr(rows, mode="r").R
    return R


def uncentred_triangle(R: Float[Tensor, "rank d_model"], readout: Readout) -> Float[Tensor, "rank2 d_model"]:
    """R of the same unembedding without centring over the vocabulary: W Wᵀ gains d_vocab m mᵀ, m the mean column."""
    extra = readout.vocab_mean_W.to(R)[None] * readout.d_vocab**0.5
    return _triangular(torch.cat([R, extra]))


def decompose(R: Float[Tensor, "rank d_model"], readout: Readout) -> Spectrum:
    """The spectrum from R (on the CPU: one small SVD) of the readout's ``W_U``, centred over the vocabulary or not."""
    _, S, Vh = torch.linalg.svd(R.cpu(), full_matrices=True)
    d_model = R.shape[1]
    values = torch.zeros(d_model, dtype=torch.float64)
    values[: len(S)] = S
    rounding, zero = _rounding(R, readout), ZERO * float(values[0])
    values[values <= max(rounding, zero)] = 0
    if readout.centred:
        values[-1] = 0
    U = Vh.T.contiguous()
    exact = int((values == 0).sum())
    if readout.centred and exact > 1:
        U[:, d_model - exact :] = _trivial_last(U[:, d_model - exact :])
    # Rounding is spread over all entries: it moves one singular value by its share of both sides at most, but for the
    # rounding of a mean, which every entry has in common and which only the exact zeros feel.
    resolution = max(zero, rounding * (d_model**-0.5 + readout.d_vocab**-0.5))
    return Spectrum(U, values, knee(values, trivial=readout.centred), readout.centred, resolution)


def _rounding(R: Float[Tensor, "rank d_model"], readout: Readout) -> float:
    """Frobenius norm of what folding and centring in the readout's number format can have left, at most: by Weyl no
    singular value is off by more."""
    means = readout.d_vocab * float(readout.vocab_mean_W.double().square().sum())
    size = math.sqrt(float(R.square().sum()) + means)
    return ROUNDINGS * torch.finfo(readout.W_U.dtype).eps / 2 * size


def _trivial_last(null: Float[Tensor, "d_model exact"]) -> Float[Tensor, "d_model exact"]:
    """Another basis of the same space, whose last column is the all-ones direction."""
    along = null.sum(0)
    turn = torch.linalg.qr(torch.cat([along[:, None], torch.eye(len(along), dtype=along.dtype)], 1)).Q
    turned: Tensor = null @ turn.roll(-1, 1)
    return turned


def steps(readout: Readout) -> Steps[Spectrum]:
    """The spectrum, a block of tokens a step: with a large vocabulary it takes many seconds."""
    total, R = -(-readout.d_vocab // block_width(readout.d_model)), None
    for done, R in enumerate(triangle(readout.W_U), 1):  # noqa: B007, the last one is used
        yield Progress("spectrum", done, total)
    assert R is not None
    return decompose(R, readout)


def spectrum(readout: Readout) -> Spectrum:
    """The whole of it at once."""
    *_, R = triangle(readout.W_U)
    return decompose(R, readout)


def knee(S: Float[Tensor, " d_model"], *, trivial: bool) -> int | None:
    """The first j >= d/2 where the spectrum falls by more than 1.5; the zero that centring makes does not count. Where
    more than half of the singular values are zero, the last one that is not: the fall to zero is the knee."""
    values = S.tolist()
    rank = sum(value > 0 for value in values)
    half = (len(values) + 1) // 2
    if rank <= half:
        return rank - 1 if rank else None
    last = len(values) - (2 if trivial else 1)  # the last index that may stand on the right of the ratio
    for j in range(half, min(rank, last)):
        if values[j + 1] == 0 or values[j] / values[j + 1] > KNEE_RATIO:
            return j
    return None


def rho(rows: Float[Tensor, "n d_model"], basis: Float[Tensor, "d_model k"]) -> Float[Tensor, " n"]:
    """Length of each row's part in the null space over its whole length, float64; NaN for a zero row. The share of the
    squared length, which adds up over directions, is the square of it."""
    exact = rows.double()
    inside: Tensor = (exact @ basis.to(rows.device)).norm(dim=1)
    length: Tensor = exact.norm(dim=1)
    return inside / length


def cosines(row: Float[Tensor, " d_model"], spectrum: Spectrum) -> Float[Tensor, " d_model"]:
    """abs(Uᵀ w) / ‖w‖: one number a singular vector, whose squares sum to 1.

    Equal singular values share what w has in their space evenly, for their directions could be any; the trivial
    direction is known, and stands apart.
    """
    exact = row.double().cpu()
    squares = (exact @ spectrum.U).square() / exact.square().sum()
    for first, last in spectrum.equal():
        end = last if spectrum.trivial and last == spectrum.d_model - 1 else last + 1
        squares[first:end] = squares[first:end].mean()
    return squares.sqrt()


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
