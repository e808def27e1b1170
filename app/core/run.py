"""The one way to have a question answered: `await ask(caller, DOSE, key, request)` gives the view.

The caller's role and bucket are looked at before anything is queued; equal questions in flight are computed once; work
of seconds takes its turns a step at a time, so that shorter requests go in between; an answer that is stored gets its
permalink; and work ends once nobody waits for it.

Nothing is stored that nobody asked to store: an answer that a page shows is kept in memory under its hash, for the one
who asked, so that sharing it (`answer_shown`) runs nothing again.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel

from analysis.labels import Thresholds
from analysis.types import NotFoundError, NotReadyError
from app.core import offloop, permalinks
from app.core.access.charges import Charge
from app.core.caller import Caller, while_connected
from app.core.errors import UnavailableError
from app.core.limits import check_request
from app.core.question import Price, Question, price_of
from app.core.residency import shipped
from app.core.residency.atlas_context import AtlasSource
from app.core.residency.cache import EVERYWHERE, Key, Kind
from app.core.residency.resident import Resident
from app.core.residency.shipped import ShippedContext
from app.core.store.results import NewResult

T = TypeVar("T")

API_PATIENCE = 100.0
"""Seconds that the API waits for an atlas that is being computed for the first time."""

PAGE_PATIENCE = 1.5
"""A page shows the progress instead."""

SHOWN = Kind("answers shown", "app.core.permalinks")
"""Of a page's reader, an answer by its hash: the question's name, the request, the view."""


async def ask(
    caller: Caller,
    question: Question,
    key: str,
    request: BaseModel,
    *,
    store: bool | None = None,
    patience: float = API_PATIENCE,
    **path: Any,
) -> Any:
    """The answer as a view of `question.view`.

    store: as of `linked`. path: what stands in the address. patience: seconds to wait for the atlas. RoleError,
    BusyError, UnavailableError (not loaded, or longer than `request_seconds`), NotReadyError without the atlas, and
    what the answer raises.
    """
    view = await answered(caller, question, key, request, patience=patience, **path)
    return await linked(caller, question, key, request, view, store=store)


async def linked(
    caller: Caller, question: Question, key: str, request: BaseModel, view: Any, *, store: bool | None = None
) -> Any:
    """`view` with its permalink, where it has one.

    store: write it down now. False: it has one where somebody has stored it. None: the same, and whoever asked may
    share it later from what a page shows (`answer_shown`).
    """
    if not question.permalink:
        return view
    name = view.provenance.request_sha256
    if store:
        link = await caller.keep(partial(permalinks.of_answer, question, request, view))
    else:
        link = await caller.kept(name)
    if link is None and store is None and (place := _shown(caller, key, name)) is not None:
        await offloop.read(caller.host.cache.put, place, (question.name, request, view))
    return view.model_copy(update={"permalink": link})


async def shared_lines(caller: Caller, question: Question, key: str, request: BaseModel) -> AsyncGenerator[object]:
    """`lines` for a page, whose reader may share what has come whole."""
    view: BaseModel | None = None
    async with aclosing(lines(caller, question, key, request)) as coming:
        async for each in coming:
            view = each if isinstance(each, BaseModel) else view
            yield each
    if view is not None:
        await linked(caller, question, key, request, view)


def answer_shown(caller: Caller, name: str) -> NewResult:
    """The answer under this hash that a page has shown to the caller, to be stored; NotFoundError once it is gone."""
    for key in list(caller.host.entries):
        if (place := _shown(caller, key, name)) is not None and (found := caller.host.cache.get(place)) is not None:
            question, request, view = found
            return permalinks.of_answer(caller.questions[question], request, view)
    raise NotFoundError("This answer is no longer in memory.", code="not_shown", hint="Run it again, then share it.")


def _shown(caller: Caller, key: str, name: str) -> Key | None:
    """None while the model is not loaded."""
    identity = caller.host.entry(key).identity
    return None if identity is None else Key(identity, SHOWN, EVERYWHERE, (caller.person, name))


async def answered(
    caller: Caller, question: Question, key: str, request: BaseModel, *, patience: float = API_PATIENCE, **path: Any
) -> Any:
    """The same without a permalink."""
    if question.at_once is not None:
        question.at_once(request)
    if question.before_weights is not None:
        found = await before_weights(caller, key, getattr(request, "sweep", None))
        if found is not None:
            caller.admit(Price(0.0, question.role))  # looked up
            return await offloop.read(question.before_weights, found, request)
    with caller.admit(question, request):
        context = path | await _context(caller, question, key, request, patience)
        asked = f"{question.name} {request.model_dump_json()} {sorted(path.items())} {_digest(context)}"
        if question.steps:
            make = partial(question.answer, request=request, **context)
            return await _in_steps(caller, question.name, key, asked, make, as_job=question.job)
        work = caller.host.run(
            key,
            lambda resident: question.answer(resident, request, **context),
            who=caller.person,
            kind=question.name,
            identity=asked,
        )
        return await while_connected(caller.request, work)


async def steps_of(caller: Caller, key: str, function: Callable[..., Iterator[object]], *args: Any, asked: str) -> Any:
    """The last item of `function(resident, *args)`, which has a price and takes its turns step by step.

    asked: equal where the same is asked.
    """
    name, make = function.__name__, partial(_on_device, function, args)
    with caller.admit(price_of(function), *args):
        return await _in_steps(caller, name, key, f"{name} {asked}", make)


def _on_device(function: Callable[..., Any], args: tuple[Any, ...], resident: Resident) -> Any:
    return function(resident, *args)


def lines(
    caller: Caller, question: Question, key: str, request: BaseModel, *, paid: Charge | None = None, **path: Any
) -> AsyncGenerator[object]:
    """The answer as it comes: views with more and more in them, the last one whole, and between them how far it is
    (`analysis.progress`). Close it to end it.

    It is refused at once for the role or an empty bucket. paid: what was taken for it already.
    """
    answer = question.lines or (question.answer if question.steps else None)
    assert answer is not None
    if question.at_once is not None:
        question.at_once(request)
    charge, make = paid or caller.admit(question, request), partial(answer, request=request, **path)
    steps = caller.host.steps(key, lambda resident: make(resident), who=caller.person, kind=question.name)
    return _charged(charge, steps)


async def _charged(charge: Charge, steps: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
    with charge:
        async with aclosing(steps):
            async for item in steps:
                yield item


async def atlas_source(
    caller: Caller, key: str, *, sweep: str | None = None, patience: float = API_PATIENCE
) -> AtlasSource:
    """The atlas and the evidence of a model; sweep: the one whose evidence counts, None: the largest that fits.

    NotReadyError when the atlas takes longer than `patience`; NotFoundError or ConflictError for a sweep that cannot
    speak.
    """
    state = caller.request.app.state
    atlas = await state.atlases.get(key, patience=patience)
    replicas = caller.host.entry(key).replicas
    weights = replicas[0][1].model.weights_sha256 if replicas else None
    return AtlasSource(atlas, await offloop.read(state.sweeps.findings, key, weights, sweep))


async def before_weights(caller: Caller, key: str, sweep: str | None) -> ShippedContext | None:
    """What ships of a model that is not loaded; None for one that is, and where nothing ships. sweep: as above."""
    entry = caller.host.entries.get(key)
    if entry is not None and entry.replicas:
        return None
    if (found := await offloop.read(shipped.of_model, key)) is None:
        return None
    state = caller.request.app.state
    findings = await offloop.read(state.sweeps.findings, key, found.facts["weights_sha256"], sweep)
    return ShippedContext(found, findings, replace(Thresholds(), **caller.settings.label_thresholds))


@asynccontextmanager
async def settled(caller: Caller, question: Question, key: str, request: Any) -> AsyncIterator[Any]:
    """The request that a job computes, paid for: nothing of its answer rests on the atlas. Errors as `ask`: whatever
    the answer refuses before its first forward pass is refused here, and not when the job's turn comes.

    The block submits the job; where that is refused, nothing was computed.
    """
    with caller.admit(question, request):
        check_request(request, caller.settings)
        known = request
        if question.settled is not None and question.atlas_for(request) != "no":
            context = await _context(caller, question, key, request, API_PATIENCE)
            known = await _beside(caller, question, key, question.settled, request, **context)
        if caller.host.entry(key).settled.is_set():  # one that is still loading is asked when it is there
            await _beside(caller, question, key, _refused_early, question.answer, known)
        yield known


async def _beside(
    caller: Caller, question: Question, key: str, function: Callable[..., T], *args: Any, **context: Any
) -> T:
    work = caller.host.run(key, partial(function, **context), *args, who=caller.person, kind=question.name)
    return await while_connected(caller.request, work)


def _refused_early(resident: Resident, answer: Callable[..., Iterator[object]], request: BaseModel) -> None:
    resident.refuse_early(answer(resident, request))


async def _context(
    caller: Caller, question: Question, key: str, request: BaseModel, patience: float
) -> dict[str, AtlasSource | None]:
    atlas = question.atlas_for(request)
    if atlas == "no":
        return {}
    caller.host.entry(key)
    try:
        return {"on": await atlas_source(caller, key, sweep=getattr(request, "sweep", None), patience=patience)}
    except (NotReadyError, UnavailableError):
        if atlas == "needed":
            raise
        return {"on": None}


def _digest(context: dict[str, Any]) -> str:
    source: AtlasSource | None = context.get("on")
    return "" if source is None else str(source.findings.digest)


async def _in_steps(
    caller: Caller,
    name: str,
    key: str,
    asked: str,
    make: Callable[[Resident], Iterator[object]],
    *,
    as_job: bool = False,
) -> BaseModel:
    """The last item. Stops between two steps once the client is gone."""
    host = caller.host
    seconds = host.settings.request_seconds
    with host.flights.shared(host.in_flight(key, asked), lambda: _last(caller, name, key, make)) as task:
        try:
            async with asyncio.timeout(seconds):
                return await while_connected(caller.request, asyncio.shield(task))
        except TimeoutError:
            raise UnavailableError(
                f"The request took longer than {seconds:g} s.",
                code="timeout",
                hint="Ask for it as a job, or for less at once." if as_job else "Ask for less at once.",
            ) from None


async def _last(caller: Caller, name: str, key: str, make: Callable[[Resident], Iterator[object]]) -> BaseModel:
    async with aclosing(caller.host.steps(key, make, who=caller.person, kind=name)) as items:
        async for item in items:
            if isinstance(item, BaseModel):
                return item
    raise AssertionError("the last step is the view")
