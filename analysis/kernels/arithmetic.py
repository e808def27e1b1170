"""The arithmetic of ``eager.combine`` and its sums at one position, as a function that a compiler can fuse.

What is compiled depends on a tile's ``Form`` alone: which terms its conditions have, never a number in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.kernels.tile import Coefficients, Tile

MIN_ROWS = 4
"""Below this many rows a call costs more than it saves."""

BLOCK = 256
"""Vocabulary entries in one partial sum. A processor whose vectors have few lanes rounds it nearly that often."""

_LOG2_E = math.log2(math.e)
_EXP2 = tuple(math.log(2) ** k / math.factorial(k) for k in range(7))
"""Taylor coefficients of 2^f, for f in [-1/2, 1/2]."""

Arguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""base (vocab,), bases (b, vocab), rows (n, vocab), scalars (k, n), direction (vocab,): contiguous float32."""

Function = Callable[..., list[Tensor]]
"""``Arguments`` -> for each condition partition, first moment and the counts above its thresholds, (n,) each."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Which terms one condition has."""

    bases: bool
    row: bool
    direction: bool
    thresholds: int


@dataclass(frozen=True, slots=True)
class Form:
    """What a function is compiled for. vocab: None stands for every vocabulary of several blocks with a remainder."""

    vocab: int | None
    bases: int
    conditions: tuple[Parts, ...]
    cap: float | None
    shifted: bool
    threads: int

    @classmethod
    def of(cls, tile: Tile) -> Form:
        """The form of a tile, on as many threads as torch uses now."""
        vocab = tile.rows.shape[1]
        several = vocab >= 2 * BLOCK and vocab % BLOCK > 1
        return cls(
            None if several else vocab,
            tile.bases.shape[0],
            tuple(_parts(c) for c in tile.conditions),
            tile.cap,
            tile.shift is not None,
            torch.get_num_threads(),
        )

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Form:
        """From what ``dataclasses.asdict`` gave."""
        return cls(**{**plain, "conditions": tuple(Parts(**parts) for parts in plain["conditions"])})

    @property
    def scalars(self) -> int:
        """Rows of the scalars."""
        each = (self.bases * c.bases + c.row + c.direction + c.thresholds for c in self.conditions)
        return sum(each) + self.shifted


def _parts(c: Coefficients) -> Parts:
    thresholds = 0 if c.thresholds is None else len(c.thresholds)
    return Parts(c.bases is not None, c.row is not None, c.direction is not None, thresholds)


def arguments(tile: Tile, pos: int) -> Arguments:
    """One position of a tile, as the function of its form takes it."""

    def plain(x: Tensor) -> Tensor:
        return x.to(torch.float32).contiguous()

    direction = tile.base[pos] if tile.direction is None else tile.direction  # unread where no condition has one
    return plain(tile.base[pos]), plain(tile.bases[:, pos]), plain(tile.rows), _pack(tile, pos), plain(direction)


def _pack(tile: Tile, pos: int) -> Float[Tensor, "k n"]:
    """Every scalar of one position as rows of one tensor, in the order in which ``reduction`` reads them.

    The shift is repeated for each neuron: a 0-dimensional tensor inside the loop made it seven times slower.
    """
    rows: list[Tensor] = []
    for c in tile.conditions:
        rows += [] if c.bases is None else list(c.bases[:, pos])
        rows += [part[pos] for part in (c.row, c.direction) if part is not None]
        rows += [] if c.thresholds is None else list(c.thresholds[:, pos])
    if tile.shift is not None:
        rows.append(tile.shift[pos].expand(tile.rows.shape[0]))
    return torch.stack(rows).to(torch.float32)


# The functions below are traced by torch.export, which cannot follow a run-time type checker: hence no_type_check.


@no_type_check
def reduction(form: Form) -> Function:
    """The function of a form, not compiled.

    The vocabulary is cut into blocks and a remainder, and the blocks' sums are added in float64, so that rounding does
    not grow with the vocabulary: 4096 terms in one lane were off by 1e-4 nats.
    """

    def reduce(base: Tensor, bases: Tensor, rows: Tensor, scalars: Tensor, direction: Tensor) -> list[Tensor]:
        vectors = (base, bases, rows, direction)
        whole = rows.shape[1] // BLOCK * BLOCK
        parts = []
        if form.vocab is None or whole:
            cut = [torch.unflatten(x[..., :whole], -1, (-1, BLOCK)) for x in vectors]
            parts.append(_sums(form, cut, scalars[..., None, None]))
        if form.vocab is None or whole < form.vocab:
            cut = [x[..., whole:] for x in vectors]
            parts.append(_sums(form, cut, scalars[..., None]))
        return parts[0] if len(parts) == 1 else [a + b for a, b in zip(*parts, strict=True)]

    return reduce


@no_type_check
def _sums(form: Form, vectors: list[Tensor], scalars: Tensor) -> list[Tensor]:
    base, bases, rows, direction = vectors
    scalar = iter(scalars)
    sums: list[Tensor] = []
    for has in form.conditions:
        u = base
        if has.bases:
            for one in bases:
                u = u + next(scalar) * one
        if has.row:
            u = u + next(scalar) * rows
        if form.cap is not None:
            u = form.cap * torch.tanh(u / form.cap)
        if form.shifted:
            u = u - scalars[-1]
        if has.direction:
            u = u + next(scalar) * direction
        e = _exp(u)
        sums += [_blockwise(e), _blockwise(e * u)]
        sums += [_blockwise(torch.where(u > next(scalar), 1.0, 0.0)) for _ in range(has.thresholds)]
    return sums


@no_type_check
def _blockwise(x: Tensor) -> Tensor:
    """The sum over everything but the rows, within blocks first."""
    return x.sum(-1) if x.ndim == 2 else x.sum(-1).double().sum(-1).float()


@no_type_check
def _exp(x: Tensor) -> Tensor:
    """exp in float32 to 2e-7 relative, as 2^n times a polynomial: inlined by the compiler, where a call for each vector
    of a library exp is a third slower. Below 2^-126 and above 2^126 it saturates."""
    t = (x * _LOG2_E).clamp(-126.0, 126.0)
    n = torch.round(t)
    f = t - n
    p = torch.full_like(f, _EXP2[-1])
    for c in _EXP2[-2::-1]:
        p = p * f + c
    return p * ((n.to(torch.int32) + 127) << 23).view(torch.float32)
