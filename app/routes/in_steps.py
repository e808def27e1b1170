"""Work of seconds for a request that waits: a step at a time, so that shorter requests go in between."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from pydantic import BaseModel

from app.answers import kept
from app.deps import Caller, while_connected
from app.errors import UnavailableError
from app.residency.resident import Resident


@dataclass
class _Flight:
    """Work that several equal requests wait for; it stops between two steps once none of them is left."""

    task: asyncio.Task[BaseModel]
    waiters: int = 0


async def in_steps(
    caller: Caller, key: str, answer: Callable[..., Iterator[object]], body: BaseModel, *more: object
) -> BaseModel:
    """The view, the last item of `answer(resident, body, *more)`, with its permalink where its kind has one.

    Stops between two steps once the client is gone. UnavailableError after `request_seconds`: what takes longer belongs
    into a job.
    """
    view = await computed(caller, key, answer, body, *more)
    kind = kept.kind_of(answer)
    return view if kind is None else await caller.keep(kept.of_answer(kind, body, view), view)


async def computed(
    caller: Caller, key: str, answer: Callable[..., Iterator[object]], body: BaseModel, *more: object
) -> BaseModel:
    """The view alone. Equal requests in flight are computed once, where the answer follows from the request."""
    seconds = caller.host.settings.request_seconds
    flights = _flights(caller)
    identity = None
    if kept.kind_of(answer) is not None:
        identity = f"{answer.__module__}.{answer.__qualname__} {key} {body.model_dump_json()} {[bool(m) for m in more]}"
    flight = flights.get(identity) if identity else None
    caller.host.flights.joined += flight is not None
    if flight is None:
        flight = _Flight(asyncio.ensure_future(_view(caller, key, answer, body, more)))
        flight.task.add_done_callback(lambda done: done.cancelled() or done.exception())  # also if nobody hears of it
        if identity:
            flights[identity] = flight
    flight.waiters += 1
    try:
        async with asyncio.timeout(seconds):
            return await while_connected(caller.request, asyncio.shield(flight.task))
    except TimeoutError:
        raise UnavailableError(
            f"The request took longer than {seconds:g} s.",
            code="timeout",
            hint="Ask for fewer rows, or raise request_seconds.",
        ) from None
    finally:
        flight.waiters -= 1
        if flight.waiters == 0:
            flight.task.cancel()  # without effect once it is done
            if identity:
                del flights[identity]


async def _view(
    caller: Caller, key: str, answer: Callable[..., Iterator[object]], body: BaseModel, more: tuple[object, ...]
) -> BaseModel:
    def make(resident: Resident) -> Iterator[object]:
        return answer(resident, body, *more)

    async with aclosing(caller.host.steps(key, make, who=caller.person, kind=answer.__name__)) as items:
        async for item in items:
            if isinstance(item, BaseModel):
                return item
    raise AssertionError("the last step is the view")


def _flights(caller: Caller) -> dict[str, _Flight]:
    state = caller.request.app.state
    if not hasattr(state, "flights"):
        state.flights = {}
    found: dict[str, _Flight] = state.flights
    return found
