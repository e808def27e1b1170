"""Permalinks: a stored result, computed again when it is opened; the lists of mine and everybody's."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from analysis.types import CapacityError, InputError, NotFoundError, NotReadyError, UnsupportedModelError
from app import exports, pages
from app.answers import kept
from app.answers import prompt as prompt_page
from app.db import notes as stored_notes
from app.db import results
from app.db.tables import Result
from app.deps import Caller, CallerDep
from app.errors import UnavailableError
from app.figures import core as figures
from app.figures.saved import drawn
from app.present import notes as shown_notes
from app.present import permalinks as shown
from app.requests.prompt import PromptState
from app.routes.footing import Ground
from app.routes.in_steps import computed
from app.routes.induction import footing
from app.routes.induction_page import saved as induction_page
from app.views.permalinks import PermalinkView, ResultsView
from app.views.prompt import PromptView

router = APIRouter(tags=["results"])
# Why a stored result cannot be computed now; anything else that goes wrong is an error as everywhere.
UNANSWERABLE = (NotFoundError, NotReadyError, InputError, CapacityError, UnsupportedModelError, UnavailableError)


class ResultsQuery(BaseModel):
    """Whose results, and which page of them."""

    who: Annotated[str, Field(pattern="^(mine|lab)$")] = "mine"
    offset: int = Field(0, ge=0, le=10_000_000)
    limit: int = Field(50, ge=1, le=500)


async def found(caller: Caller, name: str) -> Result:
    result = await caller.db(results.get, name)
    if result is None:
        raise NotFoundError("There is no such result here.", code="unknown_result", hint="It may have been deleted.")
    return result


async def recomputed(caller: Caller, name: str) -> tuple[Result, PermalinkView]:
    """The stored result and what it is today."""
    result = await found(caller, name)
    fresh: BaseModel | None = None
    text, reason, loose = None, "", frozenset[str]()
    try:
        if result.kind == kept.SWEEP:
            reason = _sweep_today(caller, result)
        elif result.kind == kept.PAGE:
            fresh = await caller.run(result.model, kept.page_again, result, kind="permalink")
        else:
            kind, asked = kept.request_of(result)
            fresh, loose = await _again(caller, result.model, kind, asked), kind.loose
        text = await caller.run(result.model, kept.text_of, result, kind="permalink")
    except UNANSWERABLE as error:
        reason = error.message
    _, notes = await caller.db(stored_notes.notes, target=f"result:{result.hash}", offset=0, limit=100)
    view = shown.permalink(
        result,
        fresh,
        reason,
        caller.root,
        loose=loose,
        text=text,
        notes=[shown_notes.note(note, caller.identity, caller.root) for note in notes],
        python=exports.client_code(result, pages.server(caller.request)),
        notebook=result.kind in exports.NUMBERS,
    )
    return result, view


async def _again(caller: Caller, key: str, kind: kept.Kind, asked: BaseModel) -> BaseModel:
    """The answer to a stored question, from the model as it is now."""
    more = (await footing(Ground(caller.request), key),) if kind.footed else ()
    if kind.steps:
        return await computed(caller, key, kind.answer, asked, *more)
    return await caller.run(key, kind.answer, asked, *more, kind="permalink")


def _sweep_today(caller: Caller, result: Result) -> str:
    """Why a sweep's stored numbers are shown, and whether the model is still the one they are of."""
    replicas = caller.host.entry(result.model).replicas
    now = replicas[0][1].model.weights_sha256 if replicas else None
    same = {None: "The model is not loaded now.", result.weights_sha256: "The model's weights are the same."}
    since = same.get(now, f"The weights are others now ({result.weights_sha256[:8]} then, {(now or '')[:8]} now).")
    return f"Hours of work are not repeated for opening a page. {since}"


@router.get("/api/v1/results")
async def listed(caller: CallerDep, query: Annotated[ResultsQuery, Query()]) -> ResultsView:
    """Stored results, newest first: mine, or the lab's."""
    total, rows = await caller.db(results.recent, person=caller.person if query.who == "mine" else None,
                                  offset=query.offset, limit=query.limit)  # fmt: skip
    return ResultsView(total=total, rows=[shown.row(row, caller.root) for row in rows])


@router.get("/api/v1/results/{name}")
async def result(name: str, caller: CallerDep) -> PermalinkView:
    """A stored request, its result of now, and whether that is what it was."""
    return (await recomputed(caller, name))[1]


@router.delete("/api/v1/results/{name}")
async def delete(name: str, caller: CallerDep) -> ResultsView:
    """Take a result out of one's list; it is gone once it is in nobody's. An administrator removes it for all."""
    await _forget(caller, name)
    return await listed(caller, ResultsQuery())


async def _forget(caller: Caller, name: str) -> None:
    stored = await found(caller, name)
    gone = await caller.db(results.forget, stored.hash, caller.person, everybody=caller.identity.is_admin)
    if not gone:
        raise NotFoundError("This result is not in your list.", code="unknown_result", hint="Its askers can delete it.")


@router.get("/r/{name}", include_in_schema=False)
async def page(name: str, request: Request, caller: CallerDep, plain: bool = False) -> Response:
    """The page of a permalink: what it was, what it is, and what anybody has noted about it.

    A prompt page opens as the prompt page, repeated text as the induction page; `plain`: notes and exports instead.
    """
    stored, view = await recomputed(caller, name)
    if pages.format_of(request) == "html" and not plain:
        if stored.kind == kept.PAGE:
            return _prompt_page(request, caller, stored, view)
        if stored.kind == "induction":
            return induction_page(request, caller, view)
    return pages.respond(
        request, view, template="permalink.html", title=view.preview or "Result", model=view.model, figures=drawn(view)
    )


def _prompt_page(request: Request, caller: Caller, stored: Result, view: PermalinkView) -> Response:
    page = PromptView.model_validate({**view.result, "models": list(caller.host.entries), "saved": view.model_dump()})
    return pages.respond(
        request,
        page,
        template="prompt.html",
        title="Prompt",
        model=view.model,
        figures={"curves": lambda: figures.curves(page), "changes": lambda: figures.changes(page)},
    )


@router.post("/r/{name}/delete", include_in_schema=False)
async def delete_page(name: str, request: Request, caller: CallerDep) -> Response:
    """The form of the page."""
    await _forget(caller, name)
    return pages.redirect(request, "/lab")


@router.post("/share", include_in_schema=False)
async def share(request: Request, caller: CallerDep) -> Response:
    """Store the prompt page as it stands and go to its permalink."""
    form = await request.form()
    fields: dict[str, Any] = {name: form[name] for name in form if name != "act"}
    state = PromptState.read({**fields, "tick": tuple(form.getlist("tick"))})
    if not state.text.strip():
        raise InputError("There is nothing to share: no prompt has run.", code="empty_prompt")
    key = state.model or caller.host.default_key
    state = state.model_copy(update={"model": key})
    frame: dict[str, Any] = {"models": [], "examples": []}
    view = await caller.run(key, prompt_page.page, state, prompt_page.EVERYTHING, frame, kind="share")
    new = kept.of_page(PromptState.read(view.state), view)
    await caller.db(results.keep, new, caller.person)
    return pages.redirect(request, f"/r/{new.hash}")


@router.get("/r/{name}/notebook.ipynb", include_in_schema=False)
async def notebook(name: str, caller: CallerDep) -> Response:
    """A notebook that computes the numbers again with plain torch and transformer_lens."""
    stored = await found(caller, name)
    needed = exports.needed_means(stored)
    means = await caller.run(stored.model, kept.means_of, needed, kind="permalink") if needed else {}
    in_rows = stored.kind in exports.IN_ROWS
    rows = await caller.run(stored.model, kept.rows_of, stored, kind="permalink") if in_rows else None
    text = exports.notebook(stored, means, rows)
    return exports.attachment(text, f"nullscope-{stored.hash[:12]}.ipynb", "application/x-ipynb+json")


@router.get("/r/{name}/page.html", include_in_schema=False)
async def standalone(name: str, caller: CallerDep) -> Response:
    """One file for a paper's supplement: the result, its request and its origin, no server needed."""
    _, view = await recomputed(caller, name)
    return exports.attachment(pages.standalone(view, drawn(view)), f"nullscope-{view.hash[:12]}.html", "text/html")
