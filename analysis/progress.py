"""Work of many steps tells how far it is: a generator that yields its progress and returns its result."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """``done`` of ``total`` batches of one stage."""

    stage: str
    done: int
    total: int


Steps = Generator[Progress, None, T]
