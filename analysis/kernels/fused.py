"""The CUDA backend: one Triton kernel that never writes a (token, neuron, vocabulary) array.

A program owns one position and a block of neurons and walks over the vocabulary once; all conditions share its loads of
m. Which terms a condition has is compiled in. Sums are kept per vocabulary lane and joined at the end, which keeps the
rounding of float32 near 1e-6.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import triton  # type: ignore[import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor

from analysis.kernels.eager import Eager, repair
from analysis.kernels.tile import Coefficients, Sums, Tile

ROWS = 8
LANES = 256


@triton.jit  # type: ignore[untyped-decorator]
def _reduce(  # type: ignore[no-untyped-def]
    base,  # (pos, vocab)
    bases,  # (B, pos, vocab)
    rows,  # (n, vocab), row stride given
    direction,  # (vocab,)
    scalars,  # (K, pos, n)
    shift,  # (pos,)
    out,  # (2 + THRESHOLDS, pos, n)
    n_pos,
    n,
    vocab,
    row_stride,
    cap,
    B: tl.constexpr,
    HAS_BASES: tl.constexpr,
    HAS_ROW: tl.constexpr,
    HAS_CAP: tl.constexpr,
    HAS_DIRECTION: tl.constexpr,
    THRESHOLDS: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    pos = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < n
    plane = n_pos * n
    here = pos * n + row
    at = 0
    coefficient_0 = tl.zeros((ROWS,), tl.float32)
    coefficient_1 = tl.zeros((ROWS,), tl.float32)
    coefficient_m = tl.zeros((ROWS,), tl.float32)
    coefficient_v = tl.zeros((ROWS,), tl.float32)
    threshold_0 = tl.zeros((ROWS,), tl.float32)
    threshold_1 = tl.zeros((ROWS,), tl.float32)
    if HAS_BASES:
        coefficient_0 = tl.load(scalars + here, mask=inside, other=0.0)
        at += 1
        if B == 2:
            coefficient_1 = tl.load(scalars + plane + here, mask=inside, other=0.0)
            at += 1
    if HAS_ROW:
        coefficient_m = tl.load(scalars + at * plane + here, mask=inside, other=0.0)
        at += 1
    if HAS_DIRECTION:
        coefficient_v = tl.load(scalars + at * plane + here, mask=inside, other=0.0)
        at += 1
    if THRESHOLDS >= 1:
        threshold_0 = tl.load(scalars + at * plane + here, mask=inside, other=0.0)
        at += 1
    if THRESHOLDS >= 2:
        threshold_1 = tl.load(scalars + at * plane + here, mask=inside, other=0.0)
    clean_log_partition = tl.load(shift + pos)
    partition = tl.zeros((ROWS, LANES), tl.float32)
    first = tl.zeros((ROWS, LANES), tl.float32)
    above_0 = tl.zeros((ROWS, LANES), tl.float32)
    above_1 = tl.zeros((ROWS, LANES), tl.float32)
    row_start = row.to(tl.int64)[:, None] * row_stride
    base_start = pos.to(tl.int64) * vocab
    for start in range(0, vocab, LANES):
        lane = start + tl.arange(0, LANES)
        valid = lane < vocab
        u = tl.zeros((ROWS, LANES), tl.float32) + tl.load(base + base_start + lane, mask=valid, other=0.0)[None, :]
        if HAS_BASES:
            u += coefficient_0[:, None] * tl.load(bases + base_start + lane, mask=valid, other=0.0)[None, :]
            if B == 2:
                # An argument that is 1 is a constant to the compiler and has no `to`: widen the position instead.
                second = bases + (pos.to(tl.int64) + n_pos) * vocab
                u += coefficient_1[:, None] * tl.load(second + lane, mask=valid, other=0.0)[None, :]
        if HAS_ROW:
            both = inside[:, None] & valid[None, :]
            u += coefficient_m[:, None] * tl.load(rows + row_start + lane[None, :], mask=both, other=0.0)
        if HAS_CAP:
            e2 = tl.exp(-2.0 * tl.abs(u) / cap)
            u = tl.where(u < 0, -cap, cap) * (1.0 - e2) / (1.0 + e2)
        u -= clean_log_partition
        if HAS_DIRECTION:
            u += coefficient_v[:, None] * tl.load(direction + lane, mask=valid, other=0.0)[None, :]
        e = tl.where(valid[None, :], tl.exp(u), 0.0)
        partition += e
        first += e * u
        if THRESHOLDS >= 1:
            above_0 += tl.where(valid[None, :] & (u > threshold_0[:, None]), 1.0, 0.0)
        if THRESHOLDS >= 2:
            above_1 += tl.where(valid[None, :] & (u > threshold_1[:, None]), 1.0, 0.0)
    tl.store(out + here, tl.sum(partition, axis=1), mask=inside)
    tl.store(out + plane + here, tl.sum(first, axis=1), mask=inside)
    if THRESHOLDS >= 1:
        tl.store(out + 2 * plane + here, tl.sum(above_0, axis=1), mask=inside)
    if THRESHOLDS >= 2:
        tl.store(out + 3 * plane + here, tl.sum(above_1, axis=1), mask=inside)


@dataclass(frozen=True, slots=True)
class Triton:
    """float32 on CUDA; other dtypes and products with vocabulary vectors (capped logits) go to ``fallback``."""

    name: str = "triton"
    compiling: bool = False
    failure: str | None = None
    fallback: Eager = field(default_factory=Eager)

    def __call__(self, tile: Tile) -> tuple[Sums, ...]:
        if tile.rows.dtype != torch.float32 or tile.functionals is not None:
            return self.fallback(tile)
        return tuple(_condition(tile, condition) for condition in tile.conditions)


def _condition(tile: Tile, c: Coefficients) -> Sums:
    n_pos, (n, vocab) = tile.base.shape[0], tile.rows.shape
    thresholds = 0 if c.thresholds is None else len(c.thresholds)
    scalars = _scalars(tile, c)
    out = tile.rows.new_empty(2 + thresholds, n_pos, n)
    _reduce[(triton.cdiv(n, ROWS), n_pos)](
        tile.base.contiguous(),
        tile.bases.contiguous(),
        tile.rows,
        tile.base if tile.direction is None else tile.direction.contiguous(),
        scalars,
        tile.base.new_zeros(n_pos) if tile.shift is None else tile.shift,
        out,
        n_pos,
        n,
        vocab,
        tile.rows.stride(0),
        1.0 if tile.cap is None else tile.cap,
        B=tile.bases.shape[0],
        HAS_BASES=c.bases is not None,
        HAS_ROW=c.row is not None,
        HAS_CAP=tile.cap is not None,
        HAS_DIRECTION=c.direction is not None,
        THRESHOLDS=thresholds,
        ROWS=ROWS,
        LANES=LANES,
    )
    above = out[2:].long() if thresholds else None
    return repair(tile, c, Sums(out[0].log(), out[1] / out[0], above))


def _scalars(tile: Tile, c: Coefficients) -> Tensor:
    parts = [] if c.bases is None else list(c.bases)
    parts += [part for part in (c.row, c.direction) if part is not None]
    parts += [] if c.thresholds is None else list(c.thresholds)
    empty = tile.base.new_zeros(tile.base.shape[0], tile.rows.shape[0])
    return torch.stack(parts or [empty]).float().contiguous()
