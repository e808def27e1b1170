"""What a neuron's weights say without any text (METHODS section 2; paper section 3, eq. 3).

    norm        ‖w_i‖ of the write row as the final norm sees it (centred for LayerNorm)
    LogitVar    unbiased variance over tokens t of cos(W_U[:, t], w_i)
    skew, kurtosis of the same cosines (Pearson: a normal distribution has 3)
    v           1 / (1 + ‖w_i W_U‖ / ‖w_i‖), w_i W_U centred over the vocabulary (Zahrivyi 2026)
    frequency alignment   cosine of w_i W_U with the frequency direction
    direct logit effect   w_i W_U: its largest and smallest tokens

No array of d_mlp x d_vocab is ever held. Second moments are quadratic forms: with C the covariance of the
unembedding's unit columns, LogitVar = ŵᵀ C ŵ exactly, in float64. Third and fourth moments and the extreme tokens
are streamed over blocks of W_U. The mean of a neuron's cosines is known beforehand, so the streamed sums are of
centred values and nothing cancels. Ids beyond the tokenizer's are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.frequency import Unigram
from analysis.model import Model
from analysis.readout import Readout

CPU_BLOCK_ELEMENTS = 1 << 19
"""Cosines worked on at once: 2 MiB in float32 stay in the last-level cache over the passes."""

CUDA_BLOCK_ELEMENTS = 1 << 26
FLOPS_PER_STEP = 2e10
"""Work between two looks at the caller: well under half a second on one core."""

Rows = Float[Tensor, "n d_model"]

EXTREMES = 5
"""Tokens kept at each end of the direct logit effect."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The unembedding as the quadratic forms need it, over the ``n_tokens`` known ids; float64.

    gram: W_U W_Uᵀ; mean: of W_U's columns. unit_mean, unit_covariance: of the columns scaled to length 1 (unbiased).
    inverse_norms: one over each column's length, 0 for a zero column. ids: what the columns stand for. frequency:
    W_U v, where counts are known; frequency_norm: ‖v‖ over those ids.
    """

    W_U: Float[Tensor, "d_model n_tokens"]
    gram: Float[Tensor, "d_model d_model"]
    mean: Float[Tensor, " d_model"]
    unit_mean: Float[Tensor, " d_model"]
    unit_covariance: Float[Tensor, "d_model d_model"]
    inverse_norms: Float[Tensor, " n_tokens"]
    ids: Int[Tensor, " n_tokens"]
    frequency: Float[Tensor, " d_model"] | None
    frequency_norm: float

    @classmethod
    def of(cls, readout: Readout, unigram: Unigram | None = None, *, padded: bool = False) -> Vocabulary:
        """padded: keep ids that the tokenizer does not know (the published convention, for `reproduce`)."""
        *_, found = cls.steps(readout, unigram, padded=padded)
        assert found is not None
        return found

    @classmethod
    def steps(
        cls, readout: Readout, unigram: Unigram | None = None, *, padded: bool = False
    ) -> Iterator[Vocabulary | None]:
        """`of` in short steps; the last one yields it."""
        W_U = readout.W_U if padded else readout.of_known(readout.W_U)
        d_model, n = W_U.shape
        gram = torch.zeros(d_model, d_model, dtype=torch.float64, device=W_U.device)
        second, first, total = torch.zeros_like(gram), torch.zeros_like(gram[0]), torch.zeros_like(gram[0])
        inverse = []
        for part in torch.split(W_U, vocabulary_width(d_model), dim=1):
            exact = part.double()
            norms = exact.norm(dim=0)
            inverse.append(torch.where(norms > 0, 1 / norms, 0))
            unit = exact * inverse[-1]
            gram += exact @ exact.T
            total += exact.sum(1)
            second += unit @ unit.T
            first += unit.sum(1)
            yield None
        mean = first / n
        v = None if unigram is None else unigram.direction.to(W_U.device, torch.float64)
        v = v if v is None or padded else readout.of_known(v)
        yield cls(
            W_U,
            gram,
            total / n,
            mean,
            (second - n * torch.outer(mean, mean)) / (n - 1),
            torch.cat(inverse),
            torch.arange(n) if padded else readout.known,
            None if v is None else torch.cat([rows.double() @ v for rows in torch.split(W_U, 64)]),
            0.0 if v is None else float(v.norm()),
        )

    def logit_var(self, unit: Float[Tensor, "n d_model"]) -> Float[Tensor, " n"]:
        """Of unit rows, in float64."""
        return quadratic(self.unit_covariance, unit.double())

    def v_score(self, unit: Float[Tensor, "n d_model"]) -> Float[Tensor, " n"]:
        """1 / (1 + ‖w W_U‖) of unit rows, w W_U centred over the known tokens; near 1 for what moves no logit."""
        centred = self.gram - self.W_U.shape[1] * torch.outer(self.mean, self.mean)
        found: Tensor = 1 / (1 + quadratic(centred, unit.double()).sqrt())
        return found

    def alignment(self, rows: Float[Tensor, "n d_model"]) -> Float[Tensor, " n"]:
        """cos(w W_U, v); NaN without counts and for a row that moves no logit."""
        exact = rows.double()
        if self.frequency is None or self.frequency_norm == 0:
            return exact.new_full((len(rows),), float("nan"))
        length = quadratic(self.gram, exact).sqrt()
        floor = 1e-7 * exact.norm(dim=1) * self.gram.diagonal().sum().sqrt()
        cosine = (exact @ self.frequency) / (length * self.frequency_norm)
        return torch.where(length > floor, cosine, float("nan"))


def vocabulary_width(d_model: int) -> int:
    """Tokens a step of `Vocabulary.steps`: two products in float64 that take a fraction of a second."""
    return max(256, int(FLOPS_PER_STEP / 8 / d_model**2))


def quadratic(form: Float[Tensor, "d d"], rows: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """rᵀ A r of each row, never below 0."""
    squares: Tensor = torch.linalg.vecdot(rows @ form, rows)
    return squares.clamp_min(0)


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the cosines of some neurons, and the tokens that they raise and lower most (best first).

    The values of ``raised`` and ``lowered`` are logits per unit of activation (before the LN scale divides).
    """

    skew: Float[Tensor, " n"]
    kurtosis: Float[Tensor, " n"]
    raised: Int[Tensor, "n k"]
    raised_by: Float[Tensor, "n k"]
    lowered: Int[Tensor, "n k"]
    lowered_by: Float[Tensor, "n k"]


def moments(rows: Float[Tensor, "n d_model"], vocabulary: Vocabulary, *, k: int = EXTREMES) -> Moments:
    """Skew, kurtosis and extreme tokens of write rows, streamed over the vocabulary. NaN where the cosines are
    constant."""
    W_U = vocabulary.W_U
    norm = rows.norm(dim=1, keepdim=True)
    unit = torch.where(norm > 0, rows / norm, 0).to(W_U.dtype)
    mean = (unit.double() @ vocabulary.unit_mean).to(W_U.dtype)[:, None]
    inverse = vocabulary.inverse_norms.to(W_U.dtype)
    sums = torch.zeros(3, len(rows), dtype=torch.float64, device=W_U.device)
    top, bottom = _Extremes(len(rows), k, W_U), _Extremes(len(rows), k, W_U)
    width = max(1, _block_elements(W_U.device) // max(len(rows), 1))
    for start in range(0, W_U.shape[1], width):
        effect = unit @ W_U[:, start : start + width]
        top.see(effect, start)
        bottom.see(-effect, start)
        cosine = torch.addcmul(-mean, effect, inverse[start : start + width])
        square = cosine * cosine
        sums[0] += square.sum(1)
        sums[1] += torch.linalg.vecdot(square, cosine)
        sums[2] += torch.linalg.vecdot(square, square)
    second, third, fourth = sums / W_U.shape[1]
    ids = vocabulary.ids.to(W_U.device)
    still = second <= 1e-14  # what rounding leaves of constant cosines
    nothing = torch.full_like(second, float("nan"))
    return Moments(
        torch.where(still, nothing, third / second**1.5),
        torch.where(still, nothing, fourth / second**2),
        ids[top.tokens],
        top.values * norm.to(W_U.dtype),
        ids[bottom.tokens],
        -bottom.values * norm.to(W_U.dtype),
    )


class _Extremes:
    """The k largest values of each row and where they are, seen block by block.

    Most blocks hold nothing new for most rows; their maximum alone tells, and only the others are sorted.
    """

    def __init__(self, n: int, k: int, like: Tensor) -> None:
        k = min(k, like.shape[1])
        self.values = like.new_full((n, k), float("-inf"))
        self.tokens = torch.zeros(n, k, dtype=torch.int64, device=like.device)

    def see(self, block: Float[Tensor, "n width"], start: int) -> None:
        rows = (block.amax(1) > self.values[:, -1]).nonzero()[:, 0]
        if not len(rows):
            return
        k = self.values.shape[1]
        best = block[rows].topk(min(k, block.shape[1]), dim=1)
        values = torch.cat([self.values[rows], best.values], dim=1)
        tokens = torch.cat([self.tokens[rows], best.indices + start], dim=1)
        kept = values.topk(k, dim=1)
        self.values[rows] = kept.values
        self.tokens[rows] = tokens.gather(1, kept.indices)


def _block_elements(device: torch.device) -> int:
    return CUDA_BLOCK_ELEMENTS if device.type == "cuda" else CPU_BLOCK_ELEMENTS


def neurons_per_step(readout: Readout) -> int:
    """How many neurons one step of a long computation takes on."""
    return int(min(1024, max(32, FLOPS_PER_STEP / (2 * readout.d_model * readout.n_tokens))))


def logit_effect(row: Float[Tensor, " d_model"], readout: Readout) -> Float[Tensor, " d_vocab"]:
    """w W_U: how one unit of activation moves each logit, before the LN scale divides."""
    return row.to(readout.W_U.dtype) @ readout.W_U


def nearest(rows: Rows, index: int, most: int) -> list[tuple[int, float]]:
    """(row, cosine) of the rows with the most similar or opposite direction to row ``index``, by falling absolute
    cosine; a zero row has cosine 0."""
    unit = torch.nn.functional.normalize(rows.float(), dim=1)
    cosines = unit @ unit[index]
    cosines[index] = 0
    best = cosines.abs().topk(min(most, len(cosines) - 1)).indices
    return list(zip(best.tolist(), cosines[best].tolist(), strict=True))


def histogram(values: Float[Tensor, " n"], bins: int) -> tuple[list[float], list[int]]:
    """(edges, counts): equal bins from the smallest to the largest value."""
    counts, edges = torch.histogram(values.double().cpu(), bins)
    return edges.tolist(), list(map(int, counts.tolist()))


@dataclass(frozen=True, slots=True)
class Shape:
    """Norms and angles of a layer's raw weights, float64. gate_*: the gated half of a gated MLP, else None.

    norm_in: ‖w_in‖; cost: what weight decay sees, ‖w_in‖² + ‖w_out‖² (+ ‖w_gate‖²); cos_in_out: NaN for a zero row.
    """

    norm_in: Float[Tensor, " d_mlp"]
    cost: Float[Tensor, " d_mlp"]
    cos_in_out: Float[Tensor, " d_mlp"]
    norm_gate: Float[Tensor, " d_mlp"] | None
    cos_gate_in: Float[Tensor, " d_mlp"] | None
    cos_gate_out: Float[Tensor, " d_mlp"] | None


def shape(model: Model, layer: int, chunk: slice = slice(None)) -> Shape:
    """Of the weights as stored: no folding, no centring. chunk: some of the layer's neurons."""
    W_in, W_out, W_gate = model.W_in(layer).T[chunk], model.W_out(layer)[chunk], model.W_gate(layer)
    norm_in, norm_out = _norms(W_in), _norms(W_out)
    cost = norm_in**2 + norm_out**2
    if W_gate is None:
        return Shape(norm_in, cost, _cosines(W_in, W_out), None, None, None)
    gate = W_gate.T[chunk]
    norm_gate = _norms(gate)
    return Shape(
        norm_in, cost + norm_gate**2, _cosines(W_in, W_out), norm_gate, _cosines(gate, W_in), _cosines(gate, W_out)
    )


def _norms(rows: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    norms: Tensor = rows.double().norm(dim=1)
    return norms


def _cosines(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    dots: Tensor = torch.linalg.vecdot(a.double(), b.double())
    return dots / (_norms(a) * _norms(b))


def steps(n_rows: int, per_step: int) -> Iterator[slice]:
    """Consecutive slices of at most ``per_step`` rows."""
    for start in range(0, n_rows, per_step):
        yield slice(start, min(start + per_step, n_rows))
