"""The dependencies of handlers, as named aliases."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from starlette.requests import Request

from analysis.types import NotFoundError
from app.core import offloop
from app.core.access.charges import Charge, Paid
from app.core.access.gate import Gate, Identity
from app.core.errors import ClientGoneError
from app.core.question import Priced, Question, price_of
from app.core.residency.host import ANYONE, ModelHost
from app.core.settings import Settings
from app.core.store import Database
from app.core.store.keeping import Keeper
from app.core.store.results import NewResult

T = TypeVar("T")


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


def paid_of(request: Request) -> Paid:
    """What this request has paid so far, whoever asked in its name."""
    if not hasattr(request.state, "paid"):
        request.state.paid = Paid()
    found: Paid = request.state.paid
    return found


@dataclass(frozen=True)
class Caller:
    """Whoever sent this request; work run for them ends when they leave.

    Questions are asked through `app.core.run.ask`, which has them admitted here: the same price and role at every door.
    """

    request: Request
    host: ModelHost
    person: str

    def admit(self, question: Priced, *asked: Any) -> Charge:
        """Take what a question costs from the caller's bucket, before anything is queued; `with` it, ask.

        asked: what decides the cost. RoleError for a lesser role, BusyError when there is not enough left.
        """
        gate: Gate = self.request.app.state.gate
        cost = question.cost_of(*asked)
        return gate.charge(self.identity, question.role, cost, paid_of(self.request), what="Computing this")

    def give_back(self, cost: float) -> None:
        """A part of an answer was not computed after all."""
        gate: Gate = self.request.app.state.gate
        gate.rates.give_back(self.identity.name, cost)

    def model(self, named: str | None) -> tuple[str, NotFoundError | None]:
        """(key, why it is not the one that was named): the server's first where there is no such model (any more)."""
        key = named or self.host.default_key
        try:
            self.host.entry(key)
            return key, None
        except NotFoundError as error:
            return self.host.default_key, error

    async def run(self, key: str, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """`host.run` of a priced function as this person.

        ClientGoneError (and the work is taken out of the queue) once they are gone.
        """
        with self.admit(price_of(function), *args):
            work = self.host.run(key, function, *args, who=self.person, **options)
            return await while_connected(self.request, work)

    @property
    def questions(self) -> Mapping[str, Question]:
        """Everything that can be asked, by name."""
        found: Mapping[str, Question] = self.request.app.state.questions
        return found

    async def keep(self, new: Callable[[], NewResult]) -> str | None:
        """Store an answer; its permalink, or None when it cannot be stored now (the log says why)."""
        keeper: Keeper = self.request.app.state.keeper
        return self._permalink(await keeper.store(new, self.person))

    async def kept(self, name: str) -> str | None:
        """The permalink of an answer that is stored already, by anybody; None where it is not. Nothing is written."""
        keeper: Keeper = self.request.app.state.keeper
        return self._permalink(name if await keeper.has(name) else None)

    def _permalink(self, name: str | None) -> str | None:
        return None if name is None else f"{self.root}/r/{name}"

    async def read(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """`function(session, ...)`, which only reads, off the event loop; it waits for no writer."""

        def work() -> T:
            with self.database.reading() as session:
                return function(session, *args, **options)

        return await offloop.read(work)

    async def write(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """`function(session, ...)` in one transaction, off the event loop; UnavailableError when it cannot be had."""

        def work() -> T:
            with self.database.session() as session:
                return function(session, *args, **options)

        return await offloop.write(work)

    @property
    def settings(self) -> Settings:
        return settings_of(self.request)

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
