"""The CPU backend of torch's compiler: combination, exponential and every sum in one generated C++ loop.

A compiled function is made for one ``Form`` of tile, in the background, by a process of its own (``libraries``); until
it is ready, for forms that could not be compiled, and where a compiled function fails, ``fallback`` answers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from analysis.kernels import libraries
from analysis.kernels.arithmetic import MIN_ROWS, Form, Function, arguments
from analysis.kernels.eager import SAFE_LOG_PARTITION, Eager, repair
from analysis.kernels.tile import Coefficients, Sums, Tile

log = logging.getLogger(__name__)

AGREEMENT = 1e-3
"""By how much a new function may differ from eager on its first tile, relative to 1 + the value: far above rounding,
far below what a wrong one gives."""

TIES = 2.0
"""Tokens by which a count above a threshold may differ besides: those that rounding puts on the other side."""


def _compiled(form: Form) -> Function:
    return libraries.load(libraries.library(form))


class Forms:
    """The functions of this process, one a form, whoever asks: they follow from shapes, not from weights.

    make: compiles one; takes its time. ``failures``: why there is none.
    """

    def __init__(self, make: Callable[[Form], Function] = _compiled) -> None:
        self.failures: dict[Form, str] = {}
        self._make = make
        self._made: dict[Form, Future[Function | None]] = {}
        self._lock = threading.Lock()
        self._compiler = threading.Lock()  # one at a time: each takes a core for a minute

    def function(self, form: Form, tile: Tile, *, wait: bool) -> Function | None:
        """The function of a form; None while it is being compiled (unless ``wait``) and when there is none."""
        with self._lock:
            made = self._made.get(form)
            if first := made is None:
                made = self._made[form] = Future()
        if first:
            work = threading.Thread(target=self._fill, args=(made, form, _sample(tile)), name="kernels", daemon=True)
            work.start()
        return made.result() if wait or made.done() else None

    def fail(self, form: Form, error: Exception) -> None:
        """From now on eager answers for this form."""
        none: Future[Function | None] = Future()
        none.set_result(None)
        with self._lock:
            known = form in self.failures
            self._made[form] = none
            self.failures[form] = f"{type(error).__name__}: {error}".splitlines()[0]
        if not known:
            log.warning("effects of one form take the slower eager kernels from now on: %s", self.failures[form])

    def waits(self, form: Form) -> bool:
        """Whether it is being compiled."""
        return form in self._made and not self._made[form].done()

    def _fill(self, made: Future[Function | None], form: Form, sample: Tile) -> None:
        try:
            with self._compiler:
                function = self._make(form)
            _agrees(function, sample)
        except Exception as error:  # the compiler's own failures have no common type
            self.fail(form, error)
            made.set_result(None)
        else:
            made.set_result(function)


SHARED = Forms()


@dataclass
class Compiled:
    """wait: compile when first called and wait for it (benchmarks, sweeps) instead of answering eagerly meanwhile."""

    name = "compiled"
    wait: bool = False
    fallback: Eager = field(default_factory=Eager)
    forms: Forms = SHARED
    asked: set[Form] = field(default_factory=set)

    def __call__(self, tile: Tile) -> tuple[Sums, ...]:
        if tile.rows.shape[0] < MIN_ROWS or tile.functionals is not None or tile.rows.dtype != torch.float32:
            return self.fallback(tile)
        form = Form.of(tile)
        self.asked.add(form)
        function = self.forms.function(form, tile, wait=self.wait)
        if function is not None:
            try:
                return _run(function, tile)
            except Exception as error:
                self.forms.fail(form, error)
        return self.fallback(tile)

    @property
    def compiling(self) -> bool:
        """Whether a form was asked for that the fallback still answers, and will not always."""
        return any(map(self.forms.waits, tuple(self.asked)))

    @property
    def failure(self) -> str | None:
        """Why eager answers for a form that was asked for; None where it need not."""
        return next((self.forms.failures[form] for form in tuple(self.asked) if form in self.forms.failures), None)


def _sample(tile: Tile) -> Tile:
    """A copy of one position and a few rows: enough to try a function on, and it keeps no model in memory."""
    n = 2 * MIN_ROWS

    def cut(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[..., :1, :n].clone()

    conditions = tuple(
        Coefficients(cut(c.bases), cut(c.row), cut(c.direction), cut(c.thresholds)) for c in tile.conditions
    )
    shift = None if tile.shift is None else tile.shift[:1].clone()
    base, bases, rows = tile.base[:1].clone(), tile.bases[:, :1].clone(), tile.rows[:n].clone()
    return replace(tile, base=base, bases=bases, rows=rows, conditions=conditions, shift=shift)


def _agrees(function: Function, sample: Tile) -> None:
    """ArithmeticError where it does not give what eager gives, as far as that is in the range in which it should."""
    with torch.inference_mode():
        for got, expected in zip(_sums(function, sample), Eager()(sample), strict=True):
            safe = expected.log_partition.abs() < SAFE_LOG_PARTITION
            pairs = [(got.log_partition, expected.log_partition, AGREEMENT), (got.mean, expected.mean, AGREEMENT)]
            if got.above is not None and expected.above is not None:
                counts = zip(got.above.double(), expected.above.double(), strict=True)
                pairs += [(ours, theirs, TIES) for ours, theirs in counts]
            for ours, theirs, allowed in pairs:
                if not torch.allclose(ours[safe], theirs[safe], rtol=AGREEMENT, atol=allowed):
                    raise ArithmeticError("the compiled kernel does not agree with the eager one")


def _sums(function: Function, tile: Tile) -> tuple[Sums, ...]:
    """One call a position; the rows are read again for each, from the cache when the tile is small enough."""
    calls = [iter(function(*arguments(tile, pos))) for pos in range(tile.base.shape[0])]
    sums = []
    for condition in tile.conditions:
        partition, first = torch.stack([next(c) for c in calls]), torch.stack([next(c) for c in calls])
        above = None
        if condition.thresholds is not None:
            above = torch.stack([torch.stack([next(c) for c in calls]) for _ in condition.thresholds]).long()
        sums.append(Sums(partition.log(), first / partition, above))
    return tuple(sums)


def _run(function: Function, tile: Tile) -> tuple[Sums, ...]:
    with torch.inference_mode():
        found = zip(tile.conditions, _sums(function, tile), strict=True)
        return tuple(repair(tile, condition, sums) for condition, sums in found)
