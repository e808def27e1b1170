"""The induction page and its panels, each a page of its own where there is no JavaScript."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel

from analysis.types import InputError, NotFoundError, NullscopeError
from app.core import at_hand, offloop, pages
from app.core.access.roles import asks
from app.core.answer_jobs import AnswerJobsDep
from app.core.answering import router as routes
from app.core.caller import Caller, CallerDep
from app.core.errors import failure_of
from app.core.example_files import ExampleRef
from app.core.jobs_view import AnswerJob
from app.core.owned_jobs import JobsDep, owned
from app.core.permalink_view import PermalinkView
from app.core.question import Question
from app.core.run import PAGE_PATIENCE, ask, linked, settled
from app.core.view import ErrorBody
from app.induction import charts as figures
from app.induction import charts_panels as panels
from app.induction import example
from app.induction.page_view import LabView, SavedView
from app.induction.questions import ATTRIBUTION, HEAD_ABLATION, HEADS, INDUCTION, NATURAL_REPEATS
from app.induction.request import InductionRequest
from app.induction.state import ROWS, InductionState
from app.induction.view import HeadAblationView, InductionView

router = routes(include_in_schema=False)


@dataclass(frozen=True)
class Panel:
    """ask: the state as a request; question: what answers it; figures: name -> figure; reads: what the Python that is
    offered prints of an answer."""

    template: str
    title: str
    ask: Callable[[InductionState], Any]
    question: Question
    figures: dict[str, Callable[[Any], pages.Figure]]
    reads: str = 'answer["rows"]'
    ready: Callable[[InductionState], bool] = lambda state: True
    typed: tuple[str, ...] = ()  # what somebody writes there: shown again as it was written, however wrong


PANELS = {
    "": Panel(
        "induction/induction.html",
        "Induction",
        InductionState.induction,
        INDUCTION,
        {
            "curves": figures.curves,
            "overlay": figures.overlay,
            "ranking": figures.ranking,
            "clip": figures.clip,
            "tokens": figures.clip_tokens,
            "controls": figures.clip_controls,
        },
        reads='answer["ranking"]',
        ready=InductionState.has_text,
        typed=(*(name for name in ROWS if name != "kind"), "neurons", "clip"),
    ),
    "heads": Panel(
        "induction/induction_heads.html",
        "Attention heads",
        InductionState.scores,
        HEADS,
        {"map": panels.head_map, "pattern": panels.pattern},
    ),
    "who": Panel(
        "induction/induction_who.html",
        "What drives this neuron",
        InductionState.attribution,
        ATTRIBUTION,
        {"parts": panels.parts, "positions": panels.parts_by_position},
        ready=lambda state: bool(state.who),
        typed=("who",),
    ),
    "ablation": Panel(
        "induction/induction_ablation.html",
        "Heads taken out",
        InductionState.ablation,
        HEAD_ABLATION,
        {"groups": panels.groups, "queries": panels.queries},
        ready=lambda state: bool(state.heads),
        typed=("heads", "queries", "random"),
    ),
    "natural": Panel(
        "induction/induction_natural.html",
        "Natural repeats",
        InductionState.natural,
        NATURAL_REPEATS,
        {"aligned": panels.aligned},
        reads='answer["passages"]',
        ready=InductionState.has_text,
    ),
}


@router.get("/induction/jobs/{job_id}")
async def job(request: Request, job_id: str, caller: CallerDep, jobs: AnswerJobsDep) -> Response:
    """Heads taken out as a job: progress while it runs, then the result."""
    view = await offloop.read(jobs.view, HEAD_ABLATION, job_id)
    if view.result is not None:
        asked = await offloop.read(jobs.asked, HEAD_ABLATION, job_id)
        view = view.model_copy(update={"result": await linked(caller, HEAD_ABLATION, view.model, asked, view.result)})
    return _job_page(request, view, await offloop.read(jobs.page_state, HEAD_ABLATION, job_id))


@router.post("/induction/jobs/{job_id}/cancel")
async def cancel(request: Request, job_id: str, caller: CallerDep, jobs: AnswerJobsDep, every: JobsDep) -> Response:
    await owned(caller, every, job_id)
    view = await offloop.write(jobs.cancel, HEAD_ABLATION, job_id)
    return _job_page(request, view, await offloop.read(jobs.page_state, HEAD_ABLATION, job_id))


@router.post("/induction/ablation/start")
async def start(request: Request, caller: CallerDep, jobs: AnswerJobsDep) -> Response:
    """The form's heads, queued."""
    form = await request.form()
    fields = {name: form[name] for name in form}
    state, refused = InductionState.holding(fields)
    state = state.model_copy(update={"model": state.model or caller.host.default_key})
    try:
        if refused is not None:
            raise refused
        asked = state.ablation()
        submit = partial(jobs.submit, HEAD_ABLATION, person=caller.person, state=state.fields())
        async with settled(caller, HEAD_ABLATION, state.model or "", asked) as known:
            view = await offloop.write(submit, state.model or "", known)
    except NullscopeError as error:
        if _alone(request, error):
            raise
        return _rendered(request, caller, "ablation", Asked(state), fields, error)
    return _job_page(request, view, state.fields())


def _job_page(request: Request, job: AnswerJob[HeadAblationView], state: dict[str, Any]) -> Response:
    found = job.result
    view = LabView(state={**InductionState().fields(), **state}, found=found, job=job)
    drawn = {name: _drawn(draw, found) for name, draw in PANELS["ablation"].figures.items()}
    return pages.respond(
        request,
        view,
        template="induction/induction_ablation.html",
        title="Heads taken out",
        model=job.model,
        figures=drawn,
    )


@router.get("/induction")
@router.get("/induction/{panel}")
async def page(request: Request, caller: CallerDep, panel: str = "") -> Response:
    """By address: seed and settings, never a text. A worked example comes from its file, without waiting."""
    await offloop.read(example.finding)
    fields = dict(request.query_params)
    if not panel and (own := _of_hand(request, caller, fields)):
        with suppress(NullscopeError):  # too short, or another model's: then the page shows what it shows by itself
            asked = await _answered(request, caller, "", own)
            return _rendered(request, caller, "", asked, fields)
    ready = example.at_home(caller.host, request.query_params.get("example")) if not panel else None
    if ready is not None:
        model = ready.view.provenance.model
        return _whole(request, caller, ready.request, await linked(caller, INDUCTION, model, ready.request, ready.view),
                      example=ready.ref)  # fmt: skip
    return await _show(request, caller, panel, fields)


def _of_hand(request: Request, caller: Caller, fields: dict[str, Any]) -> InductionState | None:
    """The prompt at hand, repeated, where the address asks for no rows of its own and somebody has chosen a prompt."""
    hand = at_hand.of_request(request)
    if hand is None or pages.format_of(request) != "html" or {*ROWS, "example", "saved"}.intersection(fields):
        return None
    given = {"model": hand.get("model") or caller.host.default_key} | {
        name: value for name, value in fields.items() if value
    }
    state, refused = InductionState.holding({**given, "kind": "text", "text": hand.get("text")})
    return state if refused is None and state.has_text() else None


@router.post("/induction")
@router.post("/induction/{panel}")
@asks
async def run(request: Request, caller: CallerDep, panel: str = "") -> Response:
    """The form as it stands, after the pressed button; `format` and `table` stand in the address."""
    form = await request.form()
    return await _show(request, caller, panel, {**{name: form[name] for name in form}, **request.query_params})


@dataclass(frozen=True)
class Asked:
    """A state, what it asked of its panel, and the answer."""

    state: InductionState
    request: BaseModel | None = None
    found: BaseModel | None = None


def _alone(request: Request, error: NullscopeError) -> bool:
    """Whether the reason is all of the answer: the page stands as it is. Not where data is wanted, nor where a panel
    asks for itself (it has nothing to lose, and its form is the place to mend it) or a model is still loading."""
    if pages.format_of(request) != "html":
        return True
    waits = pages.fills_itself(request) or failure_of(error).code == "model_loading"
    return pages.fragment_of(request) is not None and not waits


async def _show(request: Request, caller: Caller, name: str, fields: dict[str, Any]) -> Response:
    """A panel. A whole page stands without what is refused, and says so."""
    _panel(name)
    state, refused = InductionState.holding(fields)
    if state.kind == "text" and (request.method == "GET" or at_hand.NAME in request.query_params):
        state = await at_hand.started(request, state)  # an address has no text: it is the one at hand
    key, unknown = caller.model(state.model)
    asked = Asked(state.model_copy(update={"model": key}))
    error: NullscopeError | None = refused or unknown
    if error is None:
        try:
            return _rendered(request, caller, name, await _answered(request, caller, name, asked.state), fields)
        except NullscopeError as raised:
            error = raised
    if _alone(request, error):
        raise error
    if pages.fragment_of(request) is None and isinstance(error, InputError | NotFoundError):
        untried = () if error not in (refused, unknown) else (asked.state,)
        for left in (*untried, *asked.state.without(error)):
            with suppress(InputError, NotFoundError):
                asked = await _answered(request, caller, name, left)
                break
    return _rendered(request, caller, name, asked, fields, error)


async def _answered(request: Request, caller: Caller, name: str, state: InductionState) -> Asked:
    panel, key = PANELS[name], state.model or ""
    if not panel.ready(state):
        return Asked(state)
    asked = panel.ask(state)
    found = await ask(caller, panel.question, key, asked, patience=PAGE_PATIENCE)
    if state.kind == "text":
        at_hand.take_up(request, key, state.text)
    if not name and state.kind == "text":  # under its own address once somebody has shared it
        state = state.model_copy(update={"saved": (found.permalink or "").rpartition("/")[2]})
    return Asked(state, asked, found)


def _rendered(
    request: Request,
    caller: Caller,
    name: str,
    asked: Asked,
    fields: dict[str, Any],
    refused: NullscopeError | None = None,
) -> Response:
    panel, state, found = PANELS[name], asked.state, asked.found
    failure = None if refused is None else failure_of(refused).of_form()
    typed = {each: fields[each] for each in panel.typed if each in fields} if failure else {}
    server = pages.server(request)
    code = server.call(state.model, panel.question.path or "", asked.request, panel.reads) if asked.request else None
    address = f"{caller.root}{state.address(_named(request, state))}"
    view = LabView(
        state={**_beside(request, state), **typed},
        models=tuple(caller.host.entries),
        found=found,
        problem=failure and ErrorBody(code=failure.code, message=failure.message, hint=failure.hint),
        code=code,
    )
    return pages.respond(
        request,
        view,
        template=panel.template,
        title=panel.title,
        model=state.model,
        status=failure.status if failure else 200,
        figures={key: _drawn(draw, found) for key, draw in panel.figures.items()},
        push=None if name or failure else address,
        replace=address if name and not failure else None,
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
    code = pages.server(request).call(model, panel.question.path or "", asked, panel.reads)
    models = tuple(caller.host.entries)
    view = LabView(state=_beside(request, state), models=models, found=found, code=code, **more)
    drawn = {key: _drawn(draw, found) for key, draw in panel.figures.items()}
    return pages.respond(request, view, template=panel.template, title=panel.title, model=model, figures=drawn)


def _beside(request: Request, state: InductionState) -> dict[str, Any]:
    """The form's fields, with the prompt at hand where one's own text would stand."""
    hand = at_hand.of_request(request) if pages.format_of(request) == "html" and not state.text else None
    return state.fields() | ({"text": hand.get("text")} if hand else {})


def _named(request: Request, state: InductionState) -> str:
    """How the address names one's own text, for this session: it is at hand."""
    hand = at_hand.of_request(request) if state.kind == "text" else None
    return hand.name if hand is not None and hand.get("text") == state.text else ""


def _panel(name: str) -> Panel:
    if name not in PANELS:
        raise NotFoundError(f"There is no panel {name[:40]!r}.", code="not_found", hint=f"Known: {', '.join(PANELS)}.")
    return PANELS[name]


def _drawn(draw: Callable[[Any], pages.Figure], found: object) -> Callable[[], pages.Figure]:
    return lambda: draw(found)
