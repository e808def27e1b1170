"""The prompt page, its live token count, and the page of models."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from analysis.types import NullscopeError
from app import examples, pages
from app.answers import core as answers
from app.answers import prompt as answer
from app.deps import CallerDep
from app.errors import failure_of
from app.figures import core as figures
from app.present.prompt import code
from app.requests.core import PromptRequest
from app.requests.prompt import PromptState
from app.views.core import ErrorBody, ErrorView, TokensView, View
from app.views.prompt import PromptView

router = APIRouter(include_in_schema=False)

# What each fragment shows; a page without JavaScript, JSON and CSV have everything.
PARTS = {"result": {"selected"}, "selected": {"selected"}, "neurons": {"effects"}}


@router.get("/")
async def first(request: Request, caller: CallerDep) -> Response:
    """An example, computed beforehand where nothing else is asked for; the address carries the rest of the state."""
    state = PromptState.read(dict(request.query_params))
    return await _show(request, caller, state, first_paint=True)


@router.post("/")
async def run(request: Request, caller: CallerDep) -> Response:
    """The form as it stands, after the pressed button."""
    form = await request.form()
    fields: dict[str, Any] = {name: form[name] for name in form}
    fields["tick"] = tuple(form.getlist("tick"))
    return await _show(request, caller, PromptState.read(fields))


async def _show(request: Request, caller: CallerDep, asked: PromptState, *, first_paint: bool = False) -> Response:
    host = caller.host
    key = asked.model or host.default_key
    status, problem = 200, None
    home = examples.at_home(host, key)
    state, example = examples.filled(asked.model_copy(update={"model": key}), first=first_paint, home=home)
    frame: dict[str, Any] = {
        "models": list(host.entries),
        "examples": examples.refs(home=home),
        "example": example and (example.ref if home else example.elsewhere),
    }
    try:
        host.entry(key)
        state = state.acted()
        ready = examples.stored(state, example) if first_paint and home else None
        if ready is not None:
            view = ready.model_copy(update={**frame, "from_file": True})
        elif not state.text.strip():
            view = PromptView(state=state.fields(), **frame)
        else:
            parts = PARTS.get(pages.fragment_of(request) or "", answer.EVERYTHING)
            view = await caller.run(key, answer.page, state, parts, frame)
            state = PromptState.read(view.state)
    except NullscopeError as error:
        status, problem = _problem(error)
        view = PromptView(state=state.fields(), problem=problem, effects_problem=problem, **frame)
    # What a page restores from its own history, or an error, leaves the browser's address alone.
    return _render(request, view, state, status, moves=problem is None and not asked.restored)


def _render(request: Request, view: PromptView, state: PromptState, status: int, *, moves: bool) -> Response:
    whole = pages.fragment_of(request) == "result"
    query = state.query()
    address = request.scope.get("root_path", "") + "/" + (f"?{query}" if query else "")
    if view.trace is not None:
        view = view.model_copy(update={"code": code(state, pages.server(request))})
    return pages.respond(
        request,
        view.effects if view.effects and request.query_params.get("table") == "neurons" else view,
        template="prompt.html",
        title="Prompt",
        model=state.model,
        status=status,
        figures={"curves": lambda: figures.curves(view), "changes": lambda: figures.changes(view)},
        push=address if moves and whole else None,
        replace=address if moves and not whole else None,
    )


@router.post("/count")
async def count(
    request: Request, caller: CallerDep, text: Annotated[str, Form()] = "", model: Annotated[str, Form()] = ""
) -> Response:
    """How many tokens the text in the box has, beside the limit; counted by the server while one types."""
    view: View = TokensView(n_tokens=0, max_tokens=0, tokens=[])
    if text:
        key = model or caller.host.default_key
        try:
            view = await caller.run(key, answers.count, PromptRequest(text=text.replace("\r\n", "\n")))
        except NullscopeError as error:  # too long, or a model that is still loading: said in the count's own place
            view = ErrorView(error=_problem(error)[1])
    return pages.respond(request, view, template="count.html", title="Tokens")


def _problem(error: NullscopeError) -> tuple[int, ErrorBody]:
    failure = failure_of(error)
    return failure.status, ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)
