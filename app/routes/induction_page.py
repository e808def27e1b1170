"""The induction page and its panels, each a page of its own where there is no JavaScript."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from analysis.types import NotFoundError, NullscopeError
from app import examples, pages
from app.answers import induction as answers
from app.deps import Caller, CallerDep
from app.errors import failure_of
from app.figures import induction as figures
from app.figures import induction_panels as panels
from app.requests.induction import InductionRequest
from app.requests.induction_state import InductionState
from app.residency.resident import Resident
from app.routes.footing import PAGE_PATIENCE, Ground
from app.routes.in_steps import computed, in_steps
from app.routes.induction import HeadJobsDep, footing
from app.routes.jobs import JobsDep, owned
from app.views.core import ErrorBody
from app.views.induction import AblationJobView, InductionView
from app.views.induction_page import LabView, SavedView
from app.views.permalinks import PermalinkView
from app.views.prompt import ExampleRef

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Panel:
    """call: its name in the API; ask: the state as a request; answer: what computes it; figures: name -> figure."""

    call: str
    template: str
    title: str
    ask: Callable[[InductionState], Any]
    answer: Callable[[Resident, Any], Iterator[object]]
    figures: dict[str, Callable[[Any], pages.Figure]]
    ready: Callable[[InductionState], bool] = lambda state: True


PANELS = {
    "": Panel(
        "induction",
        "induction.html",
        "Induction",
        InductionState.induction,
        answers.induction,
        {
            "curves": figures.curves,
            "overlay": figures.overlay,
            "ranking": figures.ranking,
            "clip": figures.clip,
            "tokens": figures.clip_tokens,
            "controls": figures.clip_controls,
        },
        ready=InductionState.has_text,
    ),
    "heads": Panel(
        "heads",
        "induction_heads.html",
        "Attention heads",
        InductionState.scores,
        answers.head_scores,
        {"map": panels.head_map, "pattern": panels.pattern},
    ),
    "who": Panel(
        "induction/attribution",
        "induction_who.html",
        "Who tells the neuron",
        InductionState.attribution,
        answers.attribution,
        {"parts": panels.parts, "positions": panels.parts_by_position},
        ready=lambda state: bool(state.who),
    ),
    "ablation": Panel(
        "induction/ablation",
        "induction_ablation.html",
        "Heads taken out",
        InductionState.ablation,
        answers.head_ablation,
        {"groups": panels.groups, "queries": panels.queries},
        ready=lambda state: bool(state.heads),
    ),
    "natural": Panel(
        "induction/natural",
        "induction_natural.html",
        "Natural repeats",
        InductionState.natural,
        answers.natural_repeats,
        {"aligned": panels.aligned},
        ready=InductionState.has_text,
    ),
}


@router.get("/induction/jobs/{job_id}")
async def job(request: Request, job_id: str, jobs: HeadJobsDep) -> Response:
    """Heads taken out as a job: progress while it runs, then the result."""
    view = await asyncio.to_thread(jobs.view, job_id)
    return _job_page(request, view, await asyncio.to_thread(jobs.page_state, job_id))


@router.post("/induction/jobs/{job_id}/cancel")
async def cancel(request: Request, job_id: str, caller: CallerDep, jobs: HeadJobsDep, every: JobsDep) -> Response:
    await owned(caller, every, job_id)
    view = await asyncio.to_thread(jobs.cancel, job_id)
    return _job_page(request, view, await asyncio.to_thread(jobs.page_state, job_id))


@router.post("/induction/ablation/start")
async def start(request: Request, caller: CallerDep, jobs: HeadJobsDep) -> Response:
    """The form's heads, queued."""
    form = await request.form()
    state = InductionState.read({name: form[name] for name in form})
    state = state.model_copy(update={"model": state.model or caller.host.default_key})
    view = await asyncio.to_thread(
        jobs.submit, state.model or "", state.ablation(), person=caller.person, state=state.fields()
    )
    return _job_page(request, view, state.fields())


def _job_page(request: Request, job: AblationJobView, state: dict[str, Any]) -> Response:
    found = job.result
    view = LabView(state={**InductionState().fields(), **state}, found=found, job=job)
    drawn = {name: _drawn(draw, found) for name, draw in PANELS["ablation"].figures.items()}
    return pages.respond(
        request, view, template="induction_ablation.html", title="Heads taken out", model=job.model, figures=drawn
    )


@router.get("/induction")
@router.get("/induction/{panel}")
async def shown(request: Request, caller: CallerDep, panel: str = "") -> Response:
    """By address: seed and settings, never a text. A worked example comes from its file, without waiting."""
    ready = _example(caller, request.query_params.get("example")) if not panel else None
    if ready is not None:
        return _whole(request, caller, ready.request, ready.view, example=ready.ref)
    return await _show(request, caller, panel, dict(request.query_params))


@router.post("/induction")
@router.post("/induction/{panel}")
async def run(request: Request, caller: CallerDep, panel: str = "") -> Response:
    """The form as it stands, after the pressed button; `format` and `table` stand in the address."""
    form = await request.form()
    return await _show(request, caller, panel, {**{name: form[name] for name in form}, **request.query_params})


async def _show(request: Request, caller: CallerDep, name: str, fields: dict[str, Any]) -> Response:
    panel = _panel(name)
    state, asked, found, status, problem = InductionState(), None, None, 200, None
    try:
        state = InductionState.read(fields)
        state = state.model_copy(update={"model": state.model or caller.host.default_key})
        caller.host.entry(state.model or "")
        if panel.ready(state):
            asked = panel.ask(state)
            more = () if name else (await footing(Ground(request), state.model or "", PAGE_PATIENCE),)
            # One's own text is kept, so that the page has an address; all else is in the address itself.
            own = not name and state.kind == "text"
            found = await (in_steps if own else computed)(caller, state.model or "", panel.answer, asked, *more)
            if own:
                link = getattr(found, "permalink", None) or ""
                state = state.model_copy(update={"saved": link.rpartition("/")[2]})
    except NullscopeError as error:
        failure = failure_of(error)
        status, problem = failure.status, ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)
        if pages.format_of(request) != "html":
            raise
    code = pages.server(request).call(state.model, panel.call, asked) if found and asked else None
    view = LabView(state=state.fields(), models=tuple(caller.host.entries), found=found, problem=problem, code=code)
    address = f"{caller.root}{state.address()}"
    return pages.respond(
        request,
        view,
        template=panel.template,
        title=panel.title,
        model=state.model,
        status=status,
        figures={key: _drawn(draw, found) for key, draw in panel.figures.items()},
        push=None if name else address,
        replace=address if name else None,
    )


def saved(request: Request, caller: Caller, kept: PermalinkView) -> Response:
    """A stored result as the page that it was asked on; the address says what the panels show."""
    asked = InductionRequest.model_validate(kept.request["options"])
    verdict = SavedView(hash=kept.hash, verdict=kept.verdict, sentence=kept.sentence)
    return _whole(request, caller, asked, InductionView.model_validate(kept.result), saved=verdict)


def _whole(
    request: Request, caller: Caller, asked: InductionRequest, found: InductionView, **more: SavedView | ExampleRef
) -> Response:
    """The page around an answer that is there already."""
    model, panel, kept = found.provenance.model, PANELS[""], more.get("saved")
    state = InductionState.of_request(
        asked, dict(request.query_params), model=model, saved=kept.hash if isinstance(kept, SavedView) else ""
    )
    code = pages.server(request).call(model, panel.call, asked)
    models = tuple(caller.host.entries)
    view = LabView(state=state.fields(), models=models, found=found, code=code, **more)
    drawn = {key: _drawn(draw, found) for key, draw in panel.figures.items()}
    return pages.respond(request, view, template=panel.template, title=panel.title, model=model, figures=drawn)


def _example(caller: Caller, key: str | None) -> examples.Finding | None:
    """The worked example of this page, if it is asked for and is of the weights that are here."""
    found = examples.finding()
    if found is None or key != found.ref.key:
        return None
    entry = caller.host.entries.get(found.view.provenance.model)
    here = {resident.model.weights_sha256 for _, resident in entry.replicas} if entry else set()
    same = here <= {found.view.provenance.weights_sha256}
    return found if same and examples.at_home(caller.host, found.view.provenance.model) else None


def _panel(name: str) -> Panel:
    if name not in PANELS:
        raise NotFoundError(f"There is no panel {name[:40]!r}.", code="not_found", hint=f"Known: {', '.join(PANELS)}.")
    return PANELS[name]


def _drawn(draw: Callable[[Any], pages.Figure], found: object) -> Callable[[], pages.Figure]:
    return lambda: draw(found)
