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
    """`check` raises on this thread, in this block, once ``given_up()`` is true."""
    _here.given_up = given_up
    try:
        yield
    finally:
        del _here.given_up


def check() -> None:
    """GivenUpError if the work that runs on this thread has been given up."""
    given_up = getattr(_here, "given_up", None)
    if given_up is not None and given_up():
        raise GivenUpError("Nobody waits for this any more.", code="given_up")
