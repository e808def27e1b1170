"""Work of many steps tells how far it is: a generator that yields its progress and returns its result."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """``done`` of ``total`` batches of one stage."""

    stage: str
    done: int
    total: int


def whole(items: Iterable[Progress | T]) -> Iterator[Progress | T]:
    """The progress as it comes, and of the results, each with more in it than the one before, the last alone."""
    last: list[T] = []
    for item in items:
        if isinstance(item, Progress):
            yield item
        else:
            last = [item]
    yield from last


Steps = Generator[Progress, None, T]
