"""Equal requests in flight are computed once, and nobody waits at the end of somebody else's line for it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from analysis.types import ModelId
from app.core.residency.worker import Ticket

Work = Callable[[], Any]


class InFlight(NamedTuple):
    """Requests with equal ones have one answer: the same question about the same load of the same model."""

    load: int
    model: ModelId | None
    question: str


@dataclass
class Shared:
    """A task in steps that equal requests wait for, and how many do."""

    task: "asyncio.Task[Any]"
    waiters: int = 0


@dataclass
class Flight:
    """A ticket of one person, and how many requests wait for it."""

    who: str
    work: Work
    ticket: Ticket
    waiters: int = 0


class Flights:
    """Of one event loop. A person joins their own ticket, or whichever runs; else they take a place of their own.

    All tickets of an identity share the work, so whoever's turn comes first computes it and the others find it done.
    """

    def __init__(self) -> None:
        self.joined = 0  # requests that found their answer under way
        self._known: dict[InFlight, dict[str, Flight]] = {}
        self._shared: dict[InFlight, Shared] = {}

    def __len__(self) -> int:
        return len(self._known)

    @contextmanager
    def seat(
        self, identity: InFlight | None, who: str, work: Work, submit: Callable[[Work], Ticket]
    ) -> Iterator[Ticket]:
        """A ticket to wait for inside the block; when nobody waits for it any more it is given up."""
        same = self._known.get(identity, {}) if identity else {}
        begun = (flight for flight in same.values() if flight.ticket.future.running() or flight.ticket.future.done())
        flight = next(begun, None) or same.get(who)
        self.joined += bool(same)
        if flight is None:
            shared = next((other.work for other in same.values()), None) or _once(work)
            flight = same[who] = Flight(who, shared, submit(shared))
            if identity:
                self._known[identity] = same
        flight.waiters += 1
        try:
            yield flight.ticket
        finally:
            flight.waiters -= 1
            if flight.waiters == 0:
                flight.ticket.give_up()  # without effect once it is done
                del same[flight.who]
                if identity and not same:
                    del self._known[identity]

    @contextmanager
    def shared(
        self, identity: InFlight, begin: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Iterator["asyncio.Task[Any]"]:
        """The same for work in steps: the task of the first that asked, cancelled between two steps once nobody waits.

        Its steps take the turns of whoever began it.
        """
        flight = self._shared.get(identity)
        self.joined += flight is not None
        if flight is None:
            flight = self._shared[identity] = Shared(asyncio.ensure_future(begin()))
            flight.task.add_done_callback(lambda done: done.cancelled() or done.exception())  # also if nobody hears it
        flight.waiters += 1
        try:
            yield flight.task
        finally:
            flight.waiters -= 1
            if flight.waiters == 0:
                flight.task.cancel()  # without effect once it is done
                if self._shared.get(identity) is flight:
                    del self._shared[identity]


def _once(work: Work) -> Work:
    """The same work, computed by the first call that succeeds."""
    found: list[Any] = []

    def shared() -> Any:
        if not found:
            found.append(work())
        return found[0]

    return shared
