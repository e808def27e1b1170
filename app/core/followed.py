"""Answers that are being computed while a page shows what is there: started once, asked for by name.

Each is work of the one who asked for it, in the queue and within the bounds of all their work (`ModelHost.steps`). Only
one's own make room for one's own; what nobody asks for any more ends, and its place is free.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from analysis.progress import Progress
from analysis.types import NotFoundError
from app.core.caller import Caller, while_connected
from app.core.errors import ClientGoneError
from app.core.question import Question
from app.core.residency.host import ModelHost
from app.core.run import lines, linked

KEPT = 16  # of one person, finished ones included
LEASE = 30.0  # seconds for which one goes on that nobody has asked for; a page asks several times a second
REMEMBERED = 600.0  # seconds for which a finished one is kept that nobody has asked for


@dataclass(eq=False)
class Run:
    """One answer of one person. so_far: None until its first forward pass is done. stage: how far it says it is.

    waiting: requests that are connected and wait for it. polled: whether a page shows it and comes back for more.
    asked: when anybody last did, by the loop's clock.
    """

    name: str
    key: str
    load: int
    question: Question
    request: Any
    so_far: Any = None
    stage: Progress | None = None
    error: Exception | None = None
    waiting: int = 0
    polled: bool = False
    asked: float = 0.0
    lease: asyncio.Timeout | None = None
    task: "asyncio.Task[None]" = field(init=False)

    @property
    def finished(self) -> bool:
        return self.task.done()

    def renew(self, now: float) -> None:
        """Somebody has asked: it may go on for another while, or as long as they wait."""
        self.asked = now
        if self.lease is not None and not self.finished and not self.lease.expired():
            self.lease.reschedule(None if self.waiting else now + LEASE)


class FollowedRuns:
    """The last few of each person, by the hash of what was asked. For one event loop."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host
        self._of: dict[str, OrderedDict[str, Run]] = {}

    async def start(self, caller: Caller, question: Question, key: str, request: BaseModel, **path: Any) -> Run:
        """The caller's run for this request; a new one unless it is known and has not failed. path: as of `answered`.

        BusyError once as much of theirs is under way as one person may have, and they wait for all of it.
        """
        asked = self._host.in_flight(key, f"{question.name} {request.model_dump_json()} {sorted(path.items())}")
        name = hashlib.sha256(repr(asked).encode()).hexdigest()[:24]
        await self._drop_unloaded()
        run = self._known(caller.person, name)
        if run is None:
            charge = caller.admit(question, request)  # refused or charged before anything makes room for it
            await self._make_room(caller.person)
            run = self._known(caller.person, name)  # an equal request may have come in meanwhile
            if run is not None:
                charge.give_back()
            else:
                run = Run(name, key, asked.load, question, request)
                steps = lines(caller, question, key, request, paid=charge, **path)
                run.task = asyncio.create_task(self._work(run, steps), name=question.name)
                self._of.setdefault(caller.person, OrderedDict())[name] = run
        run.renew(self._now())
        self._of[caller.person].move_to_end(name)
        self._forget_finished(caller.person)
        return run

    def run(self, caller: Caller, name: str) -> Run:
        """A run of the caller by its name; NotFoundError once it is gone."""
        found = self._own(caller.person).get(name)
        if found is None or found.load not in self._host.loads:
            raise NotFoundError("This answer is no longer kept.", code="no_such_run", hint="Run it again.")
        found.polled = True
        found.renew(self._now())
        return found

    async def wait(self, caller: Caller, run: Run, seconds: float) -> None:
        """Until it is finished, but not longer. A caller who leaves and was the only one to ask for it ends it."""
        run.waiting += 1
        run.renew(self._now())
        try:
            await while_connected(caller.request, asyncio.wait({run.task}, timeout=seconds))
        except ClientGoneError:
            if run.waiting == 1 and not run.polled:
                await self._drop(caller.person, run)
            raise
        finally:
            run.waiting -= 1
            run.renew(self._now())

    async def view(self, caller: Caller, run: Run) -> Any:
        """What there is by now; None before the first forward pass. Raises what went wrong, if it did."""
        if run.error is not None:
            await self._drop(caller.person, run)
            raise run.error
        if (view := run.so_far) is None or not run.finished:
            return view
        return await linked(caller, run.question, run.key, run.request, view)

    async def close(self) -> None:
        """End them all."""
        for person, runs in list(self._of.items()):
            for run in list(runs.values()):
                await self._drop(person, run)

    async def _work(self, run: Run, steps: AsyncGenerator[object]) -> None:
        """Take the steps as long as anybody asks."""
        try:
            async with asyncio.timeout(LEASE) as run.lease, aclosing(steps):
                run.renew(self._now())
                async for item in steps:
                    if isinstance(item, Progress):
                        run.stage = item
                    elif item is not None:
                        run.so_far = item
            run.lease = None
        except TimeoutError:
            run.error = NotFoundError("This answer was ended: nobody asked for it.", code="no_such_run")
        except Exception as error:
            run.error = error

    async def _make_room(self, person: str) -> None:
        """Where all of one's places are taken, one's oldest unfinished run ends that nobody is connected for."""
        unfinished = [run for run in self._own(person).values() if not run.finished and not run.waiting]
        for run in unfinished:
            if not self._host.places.are_taken_by(person):
                return
            await self._drop(person, run)

    async def _drop_unloaded(self) -> None:
        """A model that comes back may have other weights: nothing of before is shown or gone on with."""
        loads = self._host.loads
        for person, runs in list(self._of.items()):
            for run in [run for run in runs.values() if run.load not in loads]:
                await self._drop(person, run)

    def _forget_finished(self, person: str) -> None:
        """One's oldest beyond KEPT, and whoever's has not been asked for in a long time."""
        for who, runs in list(self._of.items()):
            done = [run for run in runs.values() if run.finished]
            spare = len(runs) - KEPT if who == person else 0
            for place, run in enumerate(done):
                if place < spare or self._now() - run.asked > REMEMBERED:
                    del runs[run.name]
            if not runs:
                del self._of[who]

    async def _drop(self, person: str, run: Run) -> None:
        if self._own(person).get(run.name) is run:
            del self._of[person][run.name]
        run.task.cancel()
        await asyncio.wait({run.task})

    def _known(self, person: str, name: str) -> Run | None:
        """A run that has not failed."""
        run = self._own(person).get(name)
        return None if run is None or run.error is not None else run

    def _own(self, person: str) -> "OrderedDict[str, Run]":
        return self._of.get(person) or OrderedDict()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
