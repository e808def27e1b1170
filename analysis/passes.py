"""Forward passes of a model, counted, and held back where only what comes before them is wanted."""

from collections.abc import Iterator
from contextlib import contextmanager

from analysis import interrupt


class PassBegunError(Exception):
    """A forward pass would begin where only what comes before it was wanted."""


class Passes:
    """What a model says of its forward passes. passes: begun so far."""

    passes = 0
    _held_back = False

    def begin(self) -> None:
        """A forward pass begins now; PassBegunError inside `held_back`. Work that is given up ends here."""
        interrupt.check()
        if self._held_back:
            raise PassBegunError("A forward pass would begin now.")
        self.passes += 1

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """No forward pass begins in this block. What is refused before the first one is refused in it as ever."""
        self._held_back = True
        try:
            yield
        finally:
            self._held_back = False
