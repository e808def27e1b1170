"""Long work beside a model: an iterator, each step of which is one ticket of the batch lane."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.core.errors import BusyError, UnavailableError
from app.core.residency.replica import Replica
from app.core.residency.resident import Resident
from app.core.residency.worker import Ticket, Worker

T = TypeVar("T")
_END = object()
HOUSE = "nullscope"  # the program's own background work


@dataclass(frozen=True)
class SlicedJob(Generic[T]):
    """One such iterator. Left before its end, it is closed where it lives."""

    worker: Worker
    placed: Replica
    make: Callable[[Resident], Iterator[T]]
    who: str
    kind: str

    def on_thread(self) -> Iterator[T]:
        """From a thread of its own, never the event loop's."""
        items = self._submit(lambda: self.placed.iterate(self.make)).future.result()
        try:
            while (item := self._submit(lambda: next(items, _END)).future.result()) is not _END:
                yield item
        except GeneratorExit:
            self._close(items)
            raise

    async def on_loop(self) -> AsyncGenerator[T]:
        """From the event loop, which only waits. A cancelled caller ends the running step at its next check."""
        items = await self._turn(lambda: self.placed.iterate(self.make))
        try:
            while (item := await self._turn(lambda: next(items, _END))) is not _END:
                yield item
        except (GeneratorExit, asyncio.CancelledError):
            self._close(items)
            raise

    def _submit(self, work: Callable[[], Any]) -> Ticket:
        return self.worker.submit(work, who=self.who, kind=self.kind, lane="batch")

    async def _turn(self, work: Callable[[], Any]) -> Any:
        ticket = self._submit(work)
        try:
            return await asyncio.wrap_future(ticket.future)
        finally:
            ticket.give_up()  # without effect once it is done

    def _close(self, items: Any) -> None:
        close = getattr(items, "close", None)
        if close is not None:
            with suppress(UnavailableError, BusyError):  # shutting down, or no room: then it ends when it is collected
                self._submit(close)


class Places:
    """Bounds the requests that wait for a walk: each has one ticket at a time, so the queue does not bound them."""

    def __init__(self, *, size: int, per_person: int) -> None:
        self.size, self.per_person = size, per_person
        self._taken: Counter[str] = Counter()

    def are_taken_by(self, who: str) -> bool:
        """Whether all places that this person may have are taken."""
        return self._taken[who] >= self.per_person

    @contextmanager
    def taken_by(self, who: str) -> Iterator[None]:
        """A place inside the block; BusyError when all, or all of this person's, are taken."""
        for taken, most, whose in (
            (self._taken.total(), self.size, "are"),
            (self._taken[who], self.per_person, "of yours are"),
        ):
            if taken >= most:
                raise BusyError(
                    f"The queue is full: {taken} long requests {whose} under way.",
                    retry_after=10,
                    code="queue_full",
                    hint="Try again after the number of seconds in Retry-After.",
                )
        self._taken[who] += 1
        try:
            yield
        finally:
            self._taken[who] -= 1
            self._taken += Counter()  # forgets who has none
