"""The reference backend: plain torch on chunks of a few rows that stay in the second-level cache.

Whole (token, neuron, vocabulary) arrays would pass through main memory several times; chunks of about 2^18 elements
are ten times faster on one core (docs/performance.md).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.kernels.tile import Coefficients, Sums, Tile

CHUNK_ELEMENTS = 1 << 18
"""Logits in flight: two buffers of 1 MiB in float32."""

SAFE_LOG_PARTITION = 60.0
"""Beyond this distance from the clean log-partition the fixed shift may overflow or lose digits (exp ends at 88)."""


class Eager:
    """Always available, any device, any dtype."""

    name = "eager"
    compiling = False
    failure: str | None = None

    def __call__(self, tile: Tile) -> tuple[Sums, ...]:
        return tuple(_condition(tile, condition) for condition in tile.conditions)


def _condition(tile: Tile, condition: Coefficients) -> Sums:
    n_pos, n = tile.base.shape[0], tile.rows.shape[0]
    step = max(1, CHUNK_ELEMENTS // tile.rows.shape[1])
    out = _empty(tile, condition)
    buffer = tile.rows.new_empty(2, min(step, n), tile.rows.shape[1])
    for pos in range(n_pos):
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            u = combine(tile, condition, pos, rows, out=buffer[0, : rows.stop - rows.start])
            _reduce(tile, condition, pos, rows, u, buffer[1, : rows.stop - rows.start], out)
    return repair(tile, condition, out)


def _empty(tile: Tile, condition: Coefficients) -> Sums:
    shape = (tile.base.shape[0], tile.rows.shape[0])
    new = tile.rows.new_empty
    return Sums(
        log_partition=new(shape),
        mean=new(shape),
        above=None if condition.thresholds is None else new(condition.thresholds.shape, dtype=torch.int64),
        products=None if tile.functionals is None else new(tile.functionals.shape[0], *shape),
    )


def combine(
    tile: Tile, condition: Coefficients, pos: int, rows: slice | Tensor, *, out: Float[Tensor, "n vocab"] | None = None
) -> Float[Tensor, "n vocab"]:
    """u of some rows (a slice or indices) at one position, in ``out`` if given."""
    if condition.row is None:
        u = tile.base[pos].expand(tile.rows[rows].shape).clone() if out is None else out.copy_(tile.base[pos])
    else:
        u = torch.mul(tile.rows[rows], condition.row[pos, rows, None], out=out)
        u += tile.base[pos]
    if condition.bases is not None:
        for coefficient, base in zip(condition.bases, tile.bases, strict=True):
            u.addcmul_(coefficient[pos, rows, None], base[pos])
    if tile.cap is not None:
        u.div_(tile.cap).tanh_().mul_(tile.cap)
    if tile.shift is not None:
        u -= tile.shift[pos]
    if condition.direction is not None and tile.direction is not None:
        u.addcmul_(condition.direction[pos, rows, None], tile.direction)
    return u


def _reduce(
    tile: Tile,
    condition: Coefficients,
    pos: int,
    rows: slice,
    u: Float[Tensor, "n vocab"],
    spare: Float[Tensor, "n vocab"],
    out: Sums,
) -> None:
    if out.above is not None and condition.thresholds is not None:
        for above, threshold in zip(out.above, condition.thresholds, strict=True):
            # A comparison into floats and their sum is three times faster than a sum of booleans; exact up to 2^24.
            torch.gt(u, threshold[pos, rows, None], out=spare)
            above[pos, rows] = spare.sum(-1).long()
    if out.products is not None and tile.functionals is not None:
        out.products[:, pos, rows] = tile.functionals[:, pos] @ u.T
    partition = torch.exp(u, out=spare).sum(-1)
    out.log_partition[pos, rows] = partition.log()
    out.mean[pos, rows] = u.mul_(spare).sum(-1) / partition


def repair(tile: Tile, condition: Coefficients, sums: Sums) -> Sums:
    """Do again, with the maximum subtracted, what left the range in which the fixed shift is safe. Changes ``sums``."""
    unsafe = ~(sums.log_partition.abs() < SAFE_LOG_PARTITION)  # also true for NaN
    if bool(unsafe.any()):
        step = max(1, CHUNK_ELEMENTS // tile.rows.shape[1])
        for pos in unsafe.any(1).nonzero().flatten().tolist():
            for rows in torch.split(unsafe[pos].nonzero().flatten(), step):
                u = combine(tile, condition, pos, rows)
                log_p = u.log_softmax(-1)
                sums.log_partition[pos, rows] = u.logsumexp(-1)
                sums.mean[pos, rows] = (log_p.exp() * u).sum(-1)
    return sums
