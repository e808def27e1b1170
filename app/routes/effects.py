"""The effects page: heat map, joint ablation, dose response and LN ledger of one prompt."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from analysis.types import NullscopeError
from app import pages
from app.answers import core as core_answers
from app.answers import effects as answers
from app.deps import Caller, CallerDep
from app.errors import failure_of
from app.figures import effects as figures
from app.requests.core import EffectsRequest
from app.requests.effects_page import EffectsState
from app.routes.heatmap_runs import HeatmapRuns, Run
from app.views.core import ErrorBody
from app.views.effects_page import EffectsPageView

router = APIRouter(include_in_schema=False)

FIRST_WAIT = 0.25
"""Seconds in which a small heat map may be finished at once instead of being shown in the making."""

SUGGESTED = 8

T = TypeVar("T")


@router.get("/effects")
async def opened(request: Request, caller: CallerDep) -> Response:
    """The page with the text that it starts with; the address carries the rest of the state."""
    return await _show(request, caller, dict(request.query_params))


@router.post("/effects")
async def asked(request: Request, caller: CallerDep) -> Response:
    """The form as it stands."""
    form = await request.form()
    return await _show(request, caller, {name: form[name] for name in form})


@router.get("/effects/heatmap/{name}")
async def progress(name: str, request: Request, caller: CallerDep) -> Response:
    """A heat map in the making."""
    runs = _runs(request, caller)
    run = runs.run(name)
    finished = run.finished  # before the view is taken, so that the last one asked for is the whole
    shown = await runs.view(caller, name, finished=finished)
    view = EffectsPageView(
        state=EffectsState().model_dump(),
        models=list(caller.host.entries),
        heatmap=shown,
        run=None if finished else name,
        opens=_opens(run),
        python=run.python,
    )
    return _respond(request, view)


async def _show(request: Request, caller: Caller, fields: dict[str, Any]) -> Response:
    state, status = EffectsState(), 200
    view = EffectsPageView(state=state.model_dump(), models=list(caller.host.entries))
    try:
        state = EffectsState.read(fields)
        state = state.model_copy(update={"model": state.model or caller.host.default_key})
        view = view.model_copy(update={"state": state.model_dump(), **await _panel(request, caller, state)})
    except NullscopeError as error:
        failure = failure_of(error)
        status = failure.status
        body = ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)
        view = view.model_copy(update={"state": {**view.state, **fields}, "problem": body})
    return _respond(request, view, status=status, push=_address(request, state) if view.problem is None else None)


def _address(request: Request, state: EffectsState) -> str:
    page = pages.Page("", "/effects", (), request.scope.get("root_path", "").rstrip("/"), (), {})
    return page.url("/effects", **state.query())


def _respond(request: Request, view: EffectsPageView, *, status: int = 200, push: str | None = None) -> Response:
    drawn = {
        "heatmap": lambda: figures.heatmap(_given(view.heatmap)),
        "joint": lambda: figures.joint(_given(view.joint)),
        "dose": lambda: figures.dose(_given(view.dose)),
        "ledger": lambda: figures.ledger(_given(view.ledger)),
    }
    return pages.respond(
        request,
        view,
        template="effects.html",
        title="Effects",
        model=view.state.get("model"),
        figures=drawn,
        status=status,
        push=push,
    )


def _given(value: T | None) -> T:
    assert value is not None
    return value


async def _panel(request: Request, caller: Caller, state: EffectsState) -> dict[str, Any]:
    """What the open panel shows, as fields of the view."""
    key = state.model or caller.host.default_key

    def code(call: str, asked: BaseModel) -> str:
        return pages.server(request).call(key, call, asked, 'answer["rows"][0]')

    if state.panel == "heatmap":
        return await _heatmap(request, caller, key, state, code)
    if state.panel == "ledger":
        book = state.ledger()
        return {"ledger": await caller.answer(key, answers.ledger, book), "python": code("ledger", book)}
    suggested = await _suggested(caller, key, state)
    neurons = state.names or suggested[:2]
    shown = {"suggested": suggested, "state": state.model_copy(update={"neurons": " ".join(neurons)}).model_dump()}
    if state.panel == "joint":
        joint = state.joint(neurons)
        answer: BaseModel = await caller.answer(key, answers.joint, joint)
        return {**shown, "joint": answer, "python": code("joint", joint)}
    dose = state.dose(neurons)
    return {**shown, "dose": await caller.answer(key, answers.dose, dose), "python": code("dose", dose)}


async def _heatmap(
    request: Request, caller: Caller, key: str, state: EffectsState, code: Callable[[str, BaseModel], str]
) -> dict[str, Any]:
    """Started in the background; a page without htmx, JSON and CSV wait for the whole."""
    asked = state.heatmap()
    runs = _runs(request, caller)
    name = runs.start(caller, key, asked, code("heatmap", asked))
    run = runs.run(name)
    in_steps = pages.REQUEST in request.headers and pages.format_of(request) == "html"
    patience = FIRST_WAIT if in_steps else caller.host.settings.request_seconds
    deadline = asyncio.get_running_loop().time() + patience
    while not run.finished and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)
    finished = run.finished
    return {
        "heatmap": await runs.view(caller, name, finished=finished),
        "run": None if finished else name,
        "opens": _opens(run),
        "python": run.python,
    }


def _opens(run: Run) -> dict[str, str]:
    """The prompt page of a heat map's text; a cell adds its token and its neuron."""
    asked = run.request
    ln = "" if asked.ln_scale is None else str(asked.ln_scale)
    return {"text": asked.text or "", "model": run.key, "baseline": str(asked.baseline), "ln": ln}


async def _suggested(caller: Caller, key: str, state: EffectsState) -> list[str]:
    """The neurons with the largest change of entropy at the token."""
    body = {
        "text": state.text,
        "position": state.position,
        "baseline": state.joint(["0.0"]).baseline,
        "ln_scale": state.heatmap().ln_scale,
        "limit": SUGGESTED,
    }
    table = await caller.answer(key, core_answers.effects, EffectsRequest.model_validate(body))
    return [row.neuron for row in table.rows]


def _runs(request: Request, caller: Caller) -> HeatmapRuns:
    state = request.app.state
    if not hasattr(state, "heatmaps"):
        state.heatmaps = HeatmapRuns(caller.host)
    found: HeatmapRuns = state.heatmaps
    return found
