"""Work that nobody waits for any more ends at its next `check`; between two blocks of neurons, for example.

Whoever runs the work says how it is known to be given up; the work itself only calls `check` now and then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from analysis.types import NullscopeError

_here = threading.local()


class GivenUpError(NullscopeError):
    """Nobody waits for this work any more."""


@contextmanager
def until(given_up: Callable[[], bool]) -> Iterator[None]:
    """`check` raises on this thread, in this block, once ``given_up()`` is true.

    Blocks nest: inside the inner one `check` asks both, and after it the outer one's answer counts as before.
    """
    outer = _asked()
    _here.asked = (*outer, given_up)
    try:
        yield
    finally:
        _here.asked = outer


def check() -> None:
    """GivenUpError if the work that runs on this thread has been given up."""
    if any(given_up() for given_up in _asked()):
        raise GivenUpError("Nobody waits for this any more.", code="given_up")


def _asked() -> tuple[Callable[[], bool], ...]:
    """What the blocks around this call, the outermost first, say of being given up."""
    asked: tuple[Callable[[], bool], ...] = getattr(_here, "asked", ())
    return asked
