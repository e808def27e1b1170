"""The Why page: a token of the prompt is chosen, its entropy taken apart. What takes long comes as it is computed."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request, Response
from pydantic import BaseModel

from analysis.types import InputError
from app.core import at_hand, offloop, pages
from app.core.access.roles import asks
from app.core.answer_jobs import AnswerJobsDep, answer_jobs_of
from app.core.answering import router as routes
from app.core.caller import Caller, CallerDep
from app.core.followed import FollowedRuns, Run
from app.core.form_page import FormPage
from app.core.jobs_view import AnswerJob
from app.core.question import Question
from app.core.request import TraceRequest
from app.core.run import ask, settled
from app.why import charts as figures
from app.why import circuit_chart as drawing
from app.why.page_request import OF_THE_BAR, TYPED, Drawing, WhyState
from app.why.page_view import Making, WhyPageView
from app.why.questions import CIRCUIT, WHY, WHY_COMPARE, WHY_TEXT
from app.why.request import SplitRequest, WhyCompareRequest, last_position

router = routes(include_in_schema=False)

FIRST_WAIT = 0.4
"""Seconds in which a small answer may be finished at once instead of being shown in the making."""

SHOWN = {WHY.name: "why", WHY_TEXT.name: "along", WHY_COMPARE.name: "compared", CIRCUIT.name: "circuit", "lens": "lens"}
"""Which field of the view shows a question's answer."""
PYTHON = {
    WHY.name: ("python", 'answer["sentence"]'),
    WHY_TEXT.name: ("python_along", 'answer["components"]'),
    WHY_COMPARE.name: ("python_compared", 'answer["sentence"]'),
    CIRCUIT.name: ("python_circuit", 'answer["edges"][:5]'),
    "lens": ("python_lens", 'answer["sentence"]'),
}
JOBS = {question.name: question for question in (WHY, WHY_TEXT, CIRCUIT)}
PINNED, PINNED_END = "pinned", "pinned_end"
"""What a token is compared with: the one at its place in the pinned run's text, or that text's last."""
JobKind = Annotated[Literal["why", "why_text", "circuit"], Path()]


@router.get("/why")
async def opened(request: Request, caller: CallerDep) -> Response:
    """The page with the text that it starts with; the address carries the rest of the state."""
    return await PAGE.show(request, caller, _sent(request, request.query_params))


@router.post("/why")
@asks
async def asked(request: Request, caller: CallerDep) -> Response:
    """The form as it stands."""
    return await PAGE.show(request, caller, _sent(request, await request.form()))


def _sent(request: Request, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A page is of what is at hand now, whatever was when its form was drawn; a file is of what the page showed."""
    left = OF_THE_BAR if pages.format_of(request) == "html" else ()
    return {name: fields[name] for name in fields if name not in left}


@router.get("/why/runs/{name}")
async def progress(name: str, request: Request, caller: CallerDep, drawn: Annotated[Drawing, Query()]) -> Response:
    """An answer in the making, drawn as the page was asked to."""
    runs: FollowedRuns = request.app.state.followed
    run = runs.run(caller, name)
    state = WhyState(model=run.key, patch=getattr(run.request, "check", False), **drawn.model_dump())
    view = WhyPageView(state=state.model_dump(), models=list(caller.host.entries))
    return _respond(request, view.model_copy(update=_merged([await _so_far(request, caller, runs, run, drawn)])))


@router.get("/why/jobs/{kind}/{job_id}")
async def job(request: Request, kind: JobKind, job_id: str, caller: CallerDep, jobs: AnswerJobsDep) -> Response:
    """An answer as a job: how far it is, then what it found."""
    found = await offloop.read(jobs.view, JOBS[kind], job_id)
    state = WhyState.model_validate(await offloop.read(jobs.page_state, JOBS[kind], job_id) or {"model": found.model})
    view = WhyPageView(state=state.model_dump(), models=list(caller.host.entries))
    return _respond(request, view.model_copy(update=_of_job(kind, found)))


async def _answer(request: Request, caller: Caller, state: WhyState) -> dict[str, Any]:
    """What the page shows, as fields of the view: what is long is begun together, and shown as far as it is."""
    key = state.model or caller.host.default_key
    why = state.why()
    trace, lens = (request.app.state.questions[name] for name in ("trace", "lens"))
    wanted: list[tuple[Question, BaseModel]] = [(WHY, why)]
    if state.along:
        wanted.append((WHY_TEXT, state.whole()))
    if state.vs in (PINNED, PINNED_END):
        wanted.append((WHY_COMPARE, await _beside_pinned(request, caller, key, state)))
    elif state.vs:
        wanted.append((WHY_COMPARE, state.compared()))
    if state.follow:
        wanted.append((CIRCUIT, state.circuit()))
    if state.lens:
        wanted.append((lens, lens.request(**state.prompt, scale=state.scale)))
    shown: dict[str, Any] = {"state": state.model_dump() | {"job": ""}}
    shown["trace"] = await ask(caller, trace, key, _traced(why))
    runs: FollowedRuns = request.app.state.followed
    begun, parts = list[Run](), list[dict[str, Any]]()
    for question, asked in wanted:
        if question.name == state.job and request.method == "POST":
            parts.append(await _submitted(request, caller, question, key, asked, state))
        else:
            begun.append(await runs.start(caller, question, key, asked))
    for run in begun:
        await runs.wait(caller, run, FIRST_WAIT if _in_steps(request) else caller.host.settings.request_seconds)
        parts.append(await _so_far(request, caller, runs, run, state.drawing()))
    return shown | _merged(parts)


def _traced(split: SplitRequest) -> TraceRequest:
    """The pass that is split, traced."""
    return TraceRequest.model_validate(split.model_dump(include=set(TraceRequest.model_fields) - {"neurons"}))


def _in_steps(request: Request) -> bool:
    """Whether a browser shows the page, which asks again for what is not whole; others wait for the whole."""
    browser = pages.REQUEST in request.headers or request.headers.get("sec-fetch-dest") == "document"
    return browser and pages.format_of(request) == "html"


async def _beside_pinned(request: Request, caller: Caller, key: str, state: WhyState) -> WhyCompareRequest:
    """The chosen token beside the one at its place in the pinned run's text, or that text's last; its
    interventions with it."""
    hand = at_hand.of_request(request)
    pin = json.loads(hand.get("pin") or "{}") if hand else {}
    if not pin.get("text"):
        raise InputError("No run is pinned.", code="no_pin", hint="Pin one on the page Prompt.")
    if pin.get("model") not in (None, "", key):
        raise InputError(f"The pinned run is of {pin['model'][:40]}.", code="other_model", hint="Unpin it there.")
    if pin.get("bos", "") != state.bos:
        raise InputError(
            "The pinned run begins with another choice of BOS than this one.",
            code="pinned_bos",
            hint="Pin a run again that begins as this one does.",
        )
    at, done = None, [item for item in pin.get("do", "").split() if not item.startswith("!")]
    if state.vs == PINNED:
        trace = request.app.state.questions["trace"]
        asked = state.why()
        texts = (state.prompt, {**state.prompt, "text": pin["text"]})
        both = [await ask(caller, trace, key, TraceRequest(**each)) for each in texts]
        here, there = (last_position(len(each.tokens), state.target) for each in both)
        at = here if asked.position is None else asked.position
        if at > there:
            raise InputError(
                f"The pinned run's text has no prediction at {at}: its last one is at {max(there, 0)}.",
                code="beyond_pin",
                hint="Choose an earlier token, or compare with the last one of the pinned run's text.",
            )
    return state.beside(pin["text"], at, done, pin.get("ln", ""))


async def _so_far(request: Request, caller: Caller, runs: FollowedRuns, run: Run, drawn: Drawing) -> dict[str, Any]:
    """What a run has by now, as fields of the view."""
    finished, stage = run.finished, run.stage  # before the view is taken, so that the last one asked for is the whole
    name = run.question.name
    field, read = PYTHON[name]
    found: dict[str, Any] = {
        SHOWN[name]: await runs.view(caller, run),
        field: pages.server(request).call(run.key, run.question.path or "", run.request, read),
        "runs": {name: run.name},
    }
    if not finished:
        told = {} if stage is None else {"stage": stage.stage, "done": stage.done, "total": stage.total}
        found["making"] = {name: Making(at=f"/why/runs/{run.name}{drawn.ending}", **told)}
    return found


async def _submitted(
    request: Request, caller: Caller, question: Question, key: str, asked: BaseModel, state: WhyState
) -> dict[str, Any]:
    submit = partial(answer_jobs_of(request).submit, question, person=caller.person, state=state.model_dump())
    async with settled(caller, question, key, asked) as request_of_job:
        return _of_job(question.name, await offloop.write(submit, key, request_of_job))


def _of_job(name: str, found: AnswerJob[Any]) -> dict[str, Any]:
    """A job as fields of the view."""
    shown = {SHOWN[name]: found.result}
    if found.result is not None:
        return shown
    open_ = found.state in ("queued", "running", "cancelling")
    done = None if found.progress is None else round(100 * found.progress)
    stage = (found.stage or found.state) + (f", about {found.eta:.0f} s left" if found.eta else "")
    making = Making(
        at=f"/why/jobs/{name}/{found.id}" if open_ else "",
        job=found.id,
        stage=stage,
        done=done,
        total=None if done is None else 100,
        message=found.message or (None if open_ else f"The job was {found.state}."),
    )
    return shown | {"making": {name: making}}


def _merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields of several answers; those by question are put together."""
    whole: dict[str, Any] = {"runs": {}, "making": {}}
    for part in parts:
        for name in ("runs", "making"):
            whole[name] |= part.get(name, {})
        whole |= {name: value for name, value in part.items() if name not in ("runs", "making")}
    return whole


def _respond(request: Request, view: WhyPageView, *, status: int = 200, push: str | None = None) -> Response:
    why, along, circuit, compared, lens = view.why, view.along, view.circuit, view.compared, view.lens
    drawn: dict[str, Any] = {}
    if why is not None:
        drawn["why"] = lambda: figures.waterfall(why, view.state.get("order", "depth"))
    if along is not None:
        drawn["along"] = lambda: figures.along(along, view.state.get("by", "halves"))
    if lens is not None:
        charts = request.app.state.questions["lens"].charts
        drawn["lens"] = lambda: charts["lens"](lens, view.state.get("lens") or "entropy")
    if compared is not None:
        drawn["why_compare"] = lambda: figures.differences(compared)
    if circuit is not None:
        drawn["circuit"] = lambda: drawing.circuit(circuit)
    return pages.respond(
        request,
        view,
        template="why/why.html",
        title="Why",
        model=view.state.get("model"),
        figures=drawn,
        status=status,
        push=push,
    )


PAGE = FormPage("/why", WhyState, TYPED, WhyPageView, _answer, _respond)
