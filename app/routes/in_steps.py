"""Work of seconds for a request that waits: a step at a time, so that shorter requests go in between."""

import asyncio
import threading
from collections.abc import Callable, Iterator

from pydantic import BaseModel

from app.deps import Caller, while_connected
from app.errors import UnavailableError


async def in_steps(
    caller: Caller, key: str, answer: Callable[..., Iterator[object]], body: BaseModel, *more: object
) -> BaseModel:
    """The view, the last item of `answer(resident, body, *more)`. Stops between two steps once the client is gone.

    UnavailableError after `request_seconds`: what takes longer belongs into a job.
    """
    host, stop = caller.host, threading.Event()
    seconds = host.settings.request_seconds

    def steps() -> BaseModel | None:
        items = host.slices(
            key, lambda resident: answer(resident, body, *more), who=caller.person, kind=answer.__name__
        )
        for item in items:
            if isinstance(item, BaseModel):
                return item
            if stop.is_set():
                break
        return None

    try:
        async with asyncio.timeout(seconds):
            found = await while_connected(caller.request, asyncio.to_thread(steps))
    except TimeoutError:
        raise UnavailableError(
            f"The request took longer than {seconds:g} s.",
            code="timeout",
            hint="Ask for fewer rows, or raise request_seconds.",
        ) from None
    finally:
        stop.set()
    assert found is not None
    return found
