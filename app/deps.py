"""The dependencies of handlers, as named aliases."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from pydantic import BaseModel
from starlette.requests import Request

from app.access.gate import Identity
from app.answers import kept
from app.db import Database, results
from app.db.results import NewResult
from app.errors import ClientGoneError, UnavailableError
from app.residency.host import ANYONE, ModelHost
from app.residency.resident import Resident
from app.settings import Settings

T = TypeVar("T")
R = TypeVar("R", bound=BaseModel)


def settings_of(request: Request) -> Settings:
    found: Settings = request.app.state.settings
    return found


def host_of(request: Request) -> ModelHost:
    found: ModelHost = request.app.state.host
    return found


def person_of(request: Request) -> str:
    """Whose turn a request takes in the queue: the identity that security established, else the client's address."""
    found: str | None = getattr(request.state, "person", None)
    return found or (request.client.host if request.client else ANYONE)


@dataclass(frozen=True)
class Caller:
    """Whoever sent this request; work run for them ends when they leave."""

    request: Request
    host: ModelHost
    person: str

    async def run(self, key: str, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """`host.run` as this person; ClientGoneError (and the work is taken out of the queue) once they are gone."""
        work = self.host.run(key, function, *args, who=self.person, **options)
        return await while_connected(self.request, work)

    async def answer(self, key: str, function: Callable[[Resident, R], T], body: R) -> T:
        """`run` for an answer that follows from the request alone: equal ones in flight are computed once."""
        identity = f"{function.__module__}.{function.__qualname__} {key} {body.model_dump_json()}"
        view = await self.run(key, function, body, identity=identity)
        kind = kept.kind_of(function)
        if kind is None:
            return view
        return await self.keep(kept.of_answer(kind, body, view), view)

    async def keep(self, new: NewResult, view: T) -> T:
        """`view` with its permalink, once it is stored; without one when it cannot be stored now (the log says why)."""

        def store() -> None:
            with self.database.session() as session:
                results.keep(session, new, self.person)

        try:
            await asyncio.to_thread(store)
        except UnavailableError:
            return view
        update = {"permalink": f"{self.root}/r/{new.hash}"}
        return view.model_copy(update=update) if isinstance(view, BaseModel) else view

    async def db(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """`function(session, ...)` in one transaction, off the event loop."""

        def work() -> T:
            with self.database.session() as session:
                return function(session, *args, **options)

        return await asyncio.to_thread(work)

    @property
    def database(self) -> Database:
        found: Database = self.request.app.state.database
        return found

    @property
    def root(self) -> str:
        """The reverse proxy's prefix."""
        return str(self.request.scope.get("root_path", "")).rstrip("/")

    @property
    def identity(self) -> Identity:
        found: Identity = self.request.state.identity
        return found


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Wait for `work`, but not longer than the client does. The request's body must have been read."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError("The client closed the connection.", code="client_gone")
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def caller_of(request: Request) -> Caller:
    return Caller(request, host_of(request), person_of(request))


SettingsDep = Annotated[Settings, Depends(settings_of)]
HostDep = Annotated[ModelHost, Depends(host_of)]
CallerDep = Annotated[Caller, Depends(caller_of)]
