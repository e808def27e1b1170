"""The effects page: heat map, joint ablation, dose response and LN ledger of one prompt."""

import asyncio
from typing import Any, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel

from app.core import pages
from app.core.access.roles import asks
from app.core.answering import router as routes
from app.core.caller import Caller, CallerDep
from app.core.followed import FollowedRuns, Run
from app.core.form_page import FormPage
from app.core.question import Question
from app.core.run import answered, ask
from app.effects import charts as figures
from app.effects.page_request import TYPED, EffectsState
from app.effects.page_view import EffectsPageView
from app.effects.questions import DOSE, EFFECTS, HEATMAP, JOINT, LEDGER, LENS

router = routes(include_in_schema=False)

FIRST_WAIT = 0.25
"""Seconds in which a small heat map may be finished at once instead of being shown in the making."""

STRIP_WAIT = 5.0
"""Seconds that a heat map in the making waits for the strip of its tokens."""

SUGGESTED = 8

T = TypeVar("T")


@router.get("/effects")
async def opened(request: Request, caller: CallerDep) -> Response:
    """The page with the text that it starts with; the address carries the rest of the state."""
    return await PAGE.show(request, caller, dict(request.query_params))


@router.post("/effects")
@asks
async def asked(request: Request, caller: CallerDep) -> Response:
    """The form as it stands."""
    form = await request.form()
    return await PAGE.show(request, caller, {name: form[name] for name in form})


@router.get("/effects/heatmap/{name}")
async def progress(name: str, request: Request, caller: CallerDep) -> Response:
    """A heat map in the making."""
    runs: FollowedRuns = request.app.state.followed
    run = runs.run(caller, name)
    finished = run.finished  # before the view is taken, so that the last one asked for is the whole
    shown = await runs.view(caller, run)
    view = EffectsPageView(
        state=EffectsState().model_dump(),
        models=list(caller.host.entries),
        heatmap=shown,
        run=None if finished else name,
        opens=_opens(run),
        python=_code(request, run.key, "heatmap", run.request),
    )
    return _respond(request, view)


def _respond(request: Request, view: EffectsPageView, *, status: int = 200, push: str | None = None) -> Response:
    drawn = {
        "heatmap": lambda: figures.heatmap(_given(view.heatmap)),
        "joint": lambda: figures.joint(_given(view.joint)),
        "dose": lambda: figures.dose(_given(view.dose)),
        "ledger": lambda: figures.ledger(_given(view.ledger)),
        "lens": lambda: figures.lens(_given(view.lens), view.state.get("reads", "entropy")),
    }
    return pages.respond(
        request,
        view,
        template="effects/effects.html",
        title="Effects",
        model=view.state.get("model"),
        figures=drawn,
        status=status,
        push=push,
    )


def _given(value: T | None) -> T:
    assert value is not None
    return value


async def _answer(request: Request, caller: Caller, state: EffectsState) -> dict[str, Any]:
    """What the page shows, as fields of the view: the open panel and the strip."""
    key = state.model or caller.host.default_key
    shown = await _panel(request, caller, key, state)
    waiting = shown.get("run") is not None
    return {"state": state.model_dump(), "trace": await _strip(request, caller, key, state, waiting=waiting), **shown}


async def _strip(request: Request, caller: Caller, key: str, state: EffectsState, *, waiting: bool) -> BaseModel | None:
    """The prompt's tokens. waiting: beside a heat map in the making, which is shown even where the device is too busy
    with the work of others to run the prompt by then; None there."""
    trace: Question = request.app.state.questions["trace"]
    try:
        async with asyncio.timeout(STRIP_WAIT if waiting else None):
            view: BaseModel = await answered(caller, trace, key, state.trace())
    except TimeoutError:
        return None
    return view


async def _panel(request: Request, caller: Caller, key: str, state: EffectsState) -> dict[str, Any]:
    if state.panel == "heatmap":
        return await _heatmap(request, caller, key, state)
    if state.panel == "ledger":
        book = state.ledger()
        return {
            "ledger": await ask(caller, LEDGER, key, book),
            "python": _code(request, key, "ledger", book),
        }
    if state.panel == "lens":
        lens = state.lens()
        return {"lens": await ask(caller, LENS, key, lens), "python": _code(request, key, "lens", lens)}
    suggested = await _suggested(caller, key, state)
    neurons = state.names or suggested[:2]
    shown = {"suggested": suggested, "state": state.model_copy(update={"neurons": " ".join(neurons)}).model_dump()}
    if state.panel == "joint":
        joint = state.joint(neurons)
        answer: BaseModel = await ask(caller, JOINT, key, joint)
        return {**shown, "joint": answer, "python": _code(request, key, "joint", joint)}
    dose = state.dose(neurons)
    answer = await ask(caller, DOSE, key, dose)
    return {**shown, "dose": answer, "python": _code(request, key, "dose", dose)}


def _code(request: Request, key: str, call: str, asked: BaseModel) -> str:
    """The Python of a panel. It names the host that this reader came by, so it is kept with no run."""
    read = 'answer["layers"][-1]' if call == "lens" else 'answer["rows"][0]'
    return pages.server(request).call(key, call, asked, read)


async def _heatmap(request: Request, caller: Caller, key: str, state: EffectsState) -> dict[str, Any]:
    """Started in the background; a page without htmx, JSON and CSV wait for the whole."""
    asked = state.heatmap()
    runs: FollowedRuns = request.app.state.followed
    run = await runs.start(caller, HEATMAP, key, asked)
    in_steps = pages.REQUEST in request.headers and pages.format_of(request) == "html"
    await runs.wait(caller, run, FIRST_WAIT if in_steps else caller.host.settings.request_seconds)
    finished = run.finished
    return {
        "heatmap": await runs.view(caller, run),
        "run": None if finished else run.name,
        "opens": _opens(run),
        "python": _code(request, key, "heatmap", asked),
    }


def _opens(run: Run) -> dict[str, str]:
    """The prompt page of a heat map's text; a cell adds its token and its neuron."""
    asked = run.request
    ln = "" if asked.ln_scale is None else str(asked.ln_scale)
    return {"text": asked.text or "", "model": run.key, "baseline": str(asked.baseline), "ln": ln}


async def _suggested(caller: Caller, key: str, state: EffectsState) -> list[str]:
    """The neurons with the largest change of entropy at the token."""
    table = await ask(caller, EFFECTS, key, state.strongest(SUGGESTED))
    return [row.neuron for row in table.rows]


PAGE = FormPage("/effects", EffectsState, TYPED, EffectsPageView, _answer, _respond)
