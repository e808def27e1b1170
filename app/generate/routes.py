"""The page on which the model writes. Its script has the text as it comes; without one it comes whole. The dials come
whole."""

from functools import partial
from typing import Any

from fastapi import Request, Response

from app.core import answer as core
from app.core import offloop, pages, turns
from app.core.access.roles import asks
from app.core.answer_jobs import AnswerJobsDep, answer_jobs_of
from app.core.answering import router as routes
from app.core.caller import Caller, CallerDep
from app.core.form_page import FormPage, cleared
from app.core.lines import in_lines, wants_lines
from app.core.run import ask, linked, settled, shared_lines
from app.generate.dial_charts import means
from app.generate.page_request import TYPED, WriteState
from app.generate.page_view import WritePageView
from app.generate.questions import DIAL, GENERATE
from app.generate.request import GenerateRequest

router = routes(include_in_schema=False)
TOP_NEURONS = 3


@router.get("/write")
async def opened(request: Request, caller: CallerDep) -> Response:
    """The form, as the address has it; nothing is written yet."""
    return await PAGE.show(request, caller, dict(request.query_params))


@router.post("/write")
@asks
async def asked(request: Request, caller: CallerDep) -> Response:
    """The text written; with `Accept: text/event-stream` an event a token."""
    form = await request.form()
    fields = {name: form[name] for name in form}
    if (kind := wants_lines(request)) is None:
        return await PAGE.show(request, caller, fields)
    state, wrong = WriteState.holding(fields)
    key, unknown = caller.model(state.model)
    if refused := cleared(fields) or wrong or unknown:
        raise refused
    return await in_lines(shared_lines(caller, GENERATE, key, _text(caller, key, state)), kind)


@router.get("/write/jobs/{job_id}")
async def job(request: Request, job_id: str, caller: CallerDep, jobs: AnswerJobsDep) -> Response:
    """The dials as a job: how far it is, then what it found."""
    found = await offloop.read(jobs.view, DIAL, job_id)
    state = WriteState.model_validate(await offloop.read(jobs.page_state, DIAL, job_id) or {"model": found.model})
    dial = found.result
    if dial is not None:
        dial = await linked(caller, DIAL, found.model, await offloop.read(jobs.asked, DIAL, job_id), dial)
    view = WritePageView(state=state.model_dump(), models=list(caller.host.entries), job=found, dial=dial)
    return _respond(request, view)


def _text(caller: Caller, key: str, state: WriteState) -> GenerateRequest:
    """What is asked for a text: at once, and naming no neurons, before the reference means are there."""
    known = caller.host.entry(key).means.value is not None
    return state.asked(top_neurons=TOP_NEURONS if known else 0)


async def _answer(request: Request, caller: Caller, state: WriteState) -> dict[str, Any]:
    """What the page shows, as fields of the view."""
    key = state.model or caller.host.default_key
    server = pages.server(request)
    if request.method == "POST" and state.panel == "chat":
        text = await caller.run(key, core.written_as_chat, turns.written(await request.form()), GenerateRequest.opened)
        state = state.model_copy(update={"text": text, "written": ""})
    shown = await _conversation(request, caller, key, state)
    if request.method != "POST" or state.panel in ("", "chat", "shown"):
        wanted = _text(caller, key, state)
        shown |= {"state": state.model_dump(), "python": server.call(key, "generate", wanted, 'answer["text"]')}
        if request.method == "POST" and (not state.panel or _kept(request, state)):
            shown["answer"] = await ask(caller, GENERATE, key, wanted)
        return shown
    turned = state.dialled()
    if state.panel == "job":
        submit = partial(answer_jobs_of(request).submit, DIAL, person=caller.person, state=state.model_dump())
        async with settled(caller, DIAL, key, turned) as known:
            return shown | {"job": await offloop.write(submit, key, known)}
    return shown | {
        "python_dial": server.call(key, "dial", turned, 'answer["arms"]'),
        "dial": await ask(caller, DIAL, key, turned),
    }


def _kept(request: Request, state: WriteState) -> bool:
    """Whether what stands on the page is wanted as data, and not the code alone that asks for it."""
    return state.panel == "shown" and pages.format_of(request) != "html"


async def _conversation(request: Request, caller: Caller, key: str, state: WriteState) -> dict[str, Any]:
    """The turns of a text, where the model is there to say which they are: for a form nobody loads one. What stands in
    the fields stays there until the template has written it."""
    if not caller.host.entry(key).replicas:
        return {}
    found = await caller.run(key, core.conversation, state.text)
    typed = turns.typed(await request.form()) if request.method == "POST" and state.panel != "chat" else []
    return {"turns": typed if found is not None and typed else found}


def _respond(request: Request, view: WritePageView, *, status: int = 200, push: str | None = None) -> Response:
    shown = view.state.get("panel") == "shown"  # it stands there already, under the address that one is at
    return pages.respond(
        request,
        view,
        template="generate/write.html",
        title="Write",
        model=view.state.get("model"),
        status=status,
        push=None if shown else push,
        replace=push if shown else None,
        figures={} if view.dial is None else {"means": partial(means, view.dial)},
    )


PAGE = FormPage("/write", WriteState, TYPED, WritePageView, _answer, _respond)
"""The form as it stands, and the text written where it was sent."""
