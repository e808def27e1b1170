"""The CPU backend of torch.compile: combination, exponential and every sum in one generated C++ loop.

A compiled function is made for one form of tile (vocabulary, dtype, which parts the conditions have), in a background
thread; until it is ready, and for forms never seen, ``fallback`` answers, so that no request waits for the compiler.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.kernels.eager import Eager, repair
from analysis.kernels.tile import Coefficients, Sums, Tile

MIN_ROWS = 4
"""Below this many rows a call costs more than it saves."""

BLOCK = 4096
"""Vocabulary entries in one partial sum."""

OPTIONS: dict[str, Any] = {
    "realize_opcount_threshold": 10_000,
    "realize_reads_threshold": 10_000,
    "realize_acc_reads_threshold": 10_000,
}
"""Nothing is to be written down between the loads and the sums: by default inductor stores long expressions that
several sums read, which here are arrays of the size of ``rows``."""

_LOG2_E = math.log2(math.e)
_EXP2 = tuple(math.log(2) ** k / math.factorial(k) for k in range(7))
"""Taylor coefficients of 2^f, for f in [-1/2, 1/2]."""

Form = tuple[object, ...]
Function = Callable[..., list[Tensor]]


@dataclass(frozen=True, slots=True)
class Parts:
    """Which terms one condition has: what the compiled function is specialised for."""

    bases: bool
    row: bool
    direction: bool
    thresholds: int


@dataclass
class Compiled:
    """torch.compile on CPU. ``failure`` says why there is none, if compiling failed."""

    name = "compiled"
    wait: bool = False
    """Compile at once and wait for it (benchmarks, tests) instead of in the background."""
    fallback: Eager = field(default_factory=Eager)
    failure: str | None = None
    _functions: dict[Form, Function | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, tile: Tile) -> tuple[Sums, ...]:
        if tile.rows.shape[0] < MIN_ROWS or tile.functionals is not None or tile.rows.dtype != torch.float32:
            return self.fallback(tile)
        function = self._function(tile)
        if function is None:
            return self.fallback(tile)
        with torch.inference_mode():
            return _run(function, tile)

    def ready(self, tile: Tile) -> bool:
        """Whether a function for this form of tile is compiled."""
        return self._functions.get(_form(tile)) is not None

    @property
    def compiling(self) -> bool:
        """Whether a form was asked for that the fallback still answers, and will not always."""
        return self.failure is None and None in self._functions.values()

    def _function(self, tile: Tile) -> Function | None:
        form = _form(tile)
        with self._lock:
            known = form in self._functions
            if not known:
                self._functions[form] = None
        if known:
            return self._functions[form]
        if self.wait:
            self._compile(form, _sample(tile))
            return self._functions[form]
        threading.Thread(target=self._compile, args=(form, _sample(tile)), name="kernel-compiler", daemon=True).start()
        return None

    def _compile(self, form: Form, sample: Tile) -> None:
        """Compile by running once; a failure is kept as text and the fallback goes on answering."""
        reduction: Function = _reduction(
            tuple(_parts(c) for c in sample.conditions), sample.cap, sample.shift is not None
        )
        function = torch.compile(reduction, fullgraph=True, options=OPTIONS)
        try:
            with torch.inference_mode():
                base, bases, rows, scalars, direction = _arguments(sample, 0)
                torch._dynamo.mark_dynamic(rows, 0)
                torch._dynamo.mark_dynamic(scalars, 1)
                function(base, bases, rows, scalars, direction)
        except Exception as error:  # the compiler's own failures have no common type
            self.failure = f"{type(error).__name__}: {error}".splitlines()[0]
            return
        self._functions[form] = function


def _parts(c: Coefficients) -> Parts:
    thresholds = 0 if c.thresholds is None else len(c.thresholds)
    return Parts(c.bases is not None, c.row is not None, c.direction is not None, thresholds)


def _form(tile: Tile) -> Form:
    kinds = tuple(t.is_inference() for t in (tile.base, tile.bases, tile.rows))
    parts = tuple(_parts(c) for c in tile.conditions)
    return (tile.rows.shape[1], tile.rows.dtype, tile.bases.shape[0], tile.cap, tile.shift is not None, kinds, parts)


def _sample(tile: Tile) -> Tile:
    """One position and a few rows of the same tensors: enough to compile for."""
    n = 2 * MIN_ROWS

    def cut(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[..., :1, :n]

    conditions = tuple(
        Coefficients(cut(c.bases), cut(c.row), cut(c.direction), cut(c.thresholds)) for c in tile.conditions
    )
    shift = None if tile.shift is None else tile.shift[:1]
    return replace(
        tile, base=tile.base[:1], bases=tile.bases[:, :1], rows=tile.rows[:n], conditions=conditions, shift=shift
    )


def _pack(tile: Tile, pos: int) -> Float[Tensor, "k n"]:
    """Every scalar of one position as rows of one tensor, in the order in which ``_reduction`` reads them.

    The shift is repeated for each neuron: a 0-dimensional tensor inside the loop made it seven times slower.
    """
    rows: list[Tensor] = []
    for c in tile.conditions:
        rows += [] if c.bases is None else list(c.bases[:, pos])
        rows += [part[pos] for part in (c.row, c.direction) if part is not None]
        rows += [] if c.thresholds is None else list(c.thresholds[:, pos])
    if tile.shift is not None:
        rows.append(tile.shift[pos].expand(tile.rows.shape[0]))
    return torch.stack(rows).to(tile.rows.dtype)


def _arguments(tile: Tile, pos: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    return tile.base[pos], tile.bases[:, pos], tile.rows, _pack(tile, pos), tile.direction


# The functions below are traced by torch.compile, which cannot follow a run-time type checker: hence no_type_check.


@no_type_check
def _reduction(conditions: tuple[Parts, ...], cap: float | None, shifted: bool) -> Function:
    """The arithmetic of ``eager.combine`` and its sums at one position, as one function to fuse.

    The vocabulary is cut into blocks and a remainder: sums of block sums keep rounding at 1e-6, one long sum at 1e-5.
    """

    def reduce(base: Tensor, bases: Tensor, rows: Tensor, scalars: Tensor, direction: Tensor | None) -> list[Tensor]:
        vectors = (base, bases, rows, rows[0] if direction is None else direction)
        whole = rows.shape[1] // BLOCK * BLOCK
        parts = []
        if whole:
            cut = [torch.unflatten(x[..., :whole], -1, (-1, BLOCK)) for x in vectors]
            parts.append(_sums(conditions, cap, shifted, cut, scalars[..., None, None]))
        if whole < rows.shape[1]:
            cut = [x[..., whole:] for x in vectors]
            parts.append(_sums(conditions, cap, shifted, cut, scalars[..., None]))
        return parts[0] if len(parts) == 1 else [a + b for a, b in zip(*parts, strict=True)]

    return reduce


@no_type_check
def _sums(
    conditions: tuple[Parts, ...], cap: float | None, shifted: bool, vectors: list[Tensor], scalars: Tensor
) -> list[Tensor]:
    base, bases, rows, direction = vectors
    scalar = iter(scalars)
    sums: list[Tensor] = []
    for has in conditions:
        u = base
        if has.bases:
            for one in bases:
                u = u + next(scalar) * one
        if has.row:
            u = u + next(scalar) * rows
        if cap is not None:
            u = cap * torch.tanh(u / cap)
        if shifted:
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
    return x.sum(-1) if x.ndim == 2 else x.sum(-1).sum(-1)


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


def _run(function: Function, tile: Tile) -> tuple[Sums, ...]:
    """One call a position; the rows are read again for each, from the cache when the tile is small enough."""
    calls = [iter(function(*_arguments(tile, pos))) for pos in range(tile.base.shape[0])]
    sums = []
    for condition in tile.conditions:
        partition, first = torch.stack([next(c) for c in calls]), torch.stack([next(c) for c in calls])
        above = None
        if condition.thresholds is not None:
            above = torch.stack([torch.stack([next(c) for c in calls]) for _ in condition.thresholds]).long()
        sums.append(repair(tile, condition, Sums(partition.log(), first / partition, above)))
    return tuple(sums)
