"""What computes shards: the interface of executors, and the simplest one.

    executor.run(works, baselines)  ->  events: tokens finished, or a finished shard

Executors compute; they never touch the run folder. `analysis.distributed` has those with several workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from analysis.sweep.baselines import Baselines
from analysis.sweep.plan import Work
from analysis.sweep.worker import Worker


@dataclass(frozen=True, slots=True)
class TokensDone:
    """A slice is finished: that many tokens of the row (0 while a row goes on)."""

    tokens: int


@dataclass(frozen=True, slots=True)
class ShardDone:
    shard: int
    content: bytes


Event = TokensDone | ShardDone


@runtime_checkable
class Executor(Protocol):
    """Computes works in any order. ``baselines`` None: the first pass."""

    def run(self, works: Iterable[Work], baselines: Baselines | None) -> Iterator[Event]: ...


@dataclass(frozen=True, slots=True)
class InProcess:
    """One shard after the other on a model that is already in memory; events come after every short slice."""

    worker: Worker

    def run(self, works: Iterable[Work], baselines: Baselines | None) -> Iterator[Event]:
        for work in works:
            steps = self.worker.compute(work, baselines)
            while True:
                try:
                    tokens = next(steps)
                except StopIteration as end:
                    yield ShardDone(work.shard, end.value)
                    break
                yield TokensDone(tokens)


def finish(worker: Worker, work: Work, baselines: Baselines | None) -> bytes:
    """A shard's bytes, without stopping in between."""
    steps = worker.compute(work, baselines)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            content: bytes = end.value
            return content
