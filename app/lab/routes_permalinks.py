"""Permalinks: a stored result, computed again when it is opened; the lists of mine and everybody's."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal, TypeVar, cast

from fastapi import Form, Query, Request, Response
from pydantic import BaseModel, Field

from analysis.corpus import RowSet
from analysis.sweep.spots import Spots, spots
from analysis.types import (
    CapacityError,
    InputError,
    NeuronId,
    NotFoundError,
    NotReadyError,
    NullscopeError,
    UnsupportedModelError,
)
from app.core import offloop, pages, permalinks
from app.core.answering import router as routes
from app.core.caller import Caller, CallerDep
from app.core.drawn import Drawn
from app.core.errors import ConflictError, ForbiddenError, RoleError, UnavailableError
from app.core.notes import may_change, note_view
from app.core.permalink_view import PermalinkView, ResultsView
from app.core.question import SWEEP, Question
from app.core.run import answer_shown, answered
from app.core.store import notes as stored_notes
from app.core.store import results
from app.core.store.tables import Result
from app.lab import comparison
from app.lab import notebook as exports
from app.lab import stored as stored_answers
from app.lab.request import CaptionRequest
from app.lab.telling import with_caption, with_story

log = logging.getLogger(__name__)
T = TypeVar("T")
router = routes(tags=["results"])
# Why a stored result cannot be computed now; anything else that goes wrong is an error as everywhere.
UNANSWERABLE = (
    NotFoundError, NotReadyError, InputError, CapacityError, UnsupportedModelError, UnavailableError, RoleError,
)  # fmt: skip


class ResultsQuery(BaseModel):
    """Whose results, and which page of them."""

    who: Literal["mine", "lab"] = "mine"
    offset: int = Field(0, ge=0, le=10_000_000)
    limit: int = Field(50, ge=1, le=500)


async def stored_result(caller: Caller, name: str) -> Result:
    result = await caller.read(results.get, name)
    if result is None:
        raise NotFoundError("There is no such result here.", code="unknown_result", hint="It may have been deleted.")
    return result


async def recomputed(caller: Caller, name: str) -> tuple[Result, PermalinkView]:
    """The stored result and what it is today; what was stored, for those who may not compute."""
    result = await stored_result(caller, name)
    fresh: BaseModel | None = None
    text, reason, loose = None, "", frozenset[str]()
    try:
        if result.kind == SWEEP:
            reason = _long_ago(caller, result)
        else:
            question, asked = permalinks.request_of(caller.questions, result)
            if question.repeats is None or question.repeats(asked):
                fresh, loose = await answered(caller, question, result.model, asked), question.loose
            else:
                reason = _long_ago(caller, result)
    except UNANSWERABLE as error:
        reason = error.message
    text = await _text_of(caller, result)
    _, notes = await caller.read(stored_notes.notes, target=f"result:{result.hash}", offset=0, limit=100)
    view = await offloop.draw(
        comparison.permalink,
        result,
        fresh,
        reason,
        caller.root,
        loose=loose,
        text=text,
        notes=[note_view(note, caller.identity, caller.root) for note in notes],
        python=exports.client_code(result, pages.server(caller.request)),
        notebook=result.kind in exports.NUMBERS,
        mine=may_change(result.author, caller.identity),
    )
    return result, await with_caption(caller, result, view.with_table(caller.questions))


async def _text_of(caller: Caller, result: Result) -> str | None:
    """The prompt as text; None where there is none, or no model to say it."""
    if not permalinks.has_prompt(caller.questions, result):
        found: str | None = result.request["options"].get("text")
        return found
    try:
        return await caller.run(result.model, stored_answers.text, result.request["token_ids"], kind="permalink")
    except UNANSWERABLE:
        return None


def _long_ago(caller: Caller, result: Result) -> str:
    """Why the stored numbers of long work are shown, and whether the model is still the one they are of."""
    replicas = caller.host.entry(result.model).replicas
    now = replicas[0][1].model.weights_sha256 if replicas else None
    same = {None: "The model is not loaded now.", result.weights_sha256: "The model's weights are the same."}
    since = same.get(now, f"The weights are others now ({result.weights_sha256[:8]} then, {(now or '')[:8]} now).")
    return f"Long work is not repeated for opening a page. {since}"


@router.get("/api/v1/results")
async def listed(caller: CallerDep, query: Annotated[ResultsQuery, Query()]) -> ResultsView:
    """Stored results, newest first: mine, or the lab's."""
    total, rows = await caller.read(results.recent, person=caller.person if query.who == "mine" else None,
                                  offset=query.offset, limit=query.limit)  # fmt: skip
    return ResultsView(total=total, rows=[comparison.row(row, caller.root) for row in rows])


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
    stored = await stored_result(caller, name)
    gone = await caller.write(results.forget, stored.hash, caller.person, everybody=caller.identity.is_admin)
    if not gone:
        raise NotFoundError("This result is not in your list.", code="unknown_result", hint="Its askers can delete it.")


@router.get("/r/{name}", include_in_schema=False)
async def page(name: str, request: Request, caller: CallerDep, plain: bool = False) -> Response:
    """The page of a permalink: what it was, what it is, and what anybody has noted about it.

    Some kinds open as the page that they were asked on; `plain`: notes and exports instead.
    """
    stored, view = await recomputed(caller, name)
    if pages.format_of(request) == "html":
        view = await with_story(caller, stored, view)
    show = partial(_page, request, caller, view, plain)
    if view.verdict != "cached":
        return await offloop.draw(show)
    response = await offloop.draw(as_stored, show)
    if isinstance(response, Drawn):
        make = response.make
        response.make = lambda: as_stored(make)
    return response


def as_stored(show: Callable[[], T]) -> T:
    """`show()`, which draws or writes a stored answer; ConflictError where another version stored it, and it is not as
    this one reads it."""
    try:
        return show()
    except NullscopeError:
        raise
    except Exception as error:
        log.warning("a stored answer cannot be shown: %s", type(error).__name__)  # its message may hold a prompt
        raise ConflictError(
            "The stored numbers of this result cannot be shown in this form: they are not as this version writes them.",
            code="stored_answer",
            hint="Its JSON has them as they are; once its model is loaded they are computed again.",
        ) from None


def _page(request: Request, caller: Caller, view: PermalinkView, plain: bool) -> Response:
    """Not on the event loop: a stored answer is read whole."""
    if pages.format_of(request) == "html" and not plain:
        question = caller.questions.get(view.kind)
        if question is not None and question.opens is not None:
            return cast(Response, question.opens(request, caller, view))
    return pages.respond(
        request,
        view,
        template="lab/permalink.html",
        title=view.title or view.preview or "Result",
        model=view.model,
        figures=drawn(caller.questions, view),
    )


@router.post("/r/{name}", include_in_schema=False)
async def share(name: str, request: Request, caller: CallerDep) -> Response:
    """Store an answer that a page has just shown to whoever asks, and go to its permalink: nothing runs again."""
    if await caller.kept(name) is None:
        new = await offloop.draw(answer_shown, caller, name)
        await caller.write(results.keep, new, caller.person, caller.settings.result_quota_bytes)
    return pages.redirect(request, f"/r/{name}")


@router.post("/r/{name}/delete", include_in_schema=False)
async def delete_page(name: str, request: Request, caller: CallerDep) -> Response:
    """The form of the page."""
    await _forget(caller, name)
    return pages.redirect(request, "/lab")


@router.post("/r/{name}/caption", include_in_schema=False)
async def describe(
    name: str,
    request: Request,
    caller: CallerDep,
    title: Annotated[str, Form()] = "",
    caption: Annotated[str, Form()] = "",
) -> Response:
    """Title and caption as the form has them; what the numbers say by themselves is not kept as somebody's words."""
    stored, view = await recomputed(caller, name)
    if not view.mine:
        raise ForbiddenError(f"Only {stored.author} can change this.", code="not_yours", hint="Write a note below it.")
    given = CaptionRequest(title=title, caption=caption.replace("\r\n", "\n").strip())
    own = given.caption if given.caption != view.told.caption else ""
    await caller.write(results.describe, stored.hash, given.title, own)
    return pages.redirect(request, f"/r/{stored.hash}")


@router.get("/r/{name}/notebook.ipynb", include_in_schema=False)
async def notebook(name: str, caller: CallerDep) -> Response:
    """A notebook that computes the numbers again with plain torch and transformer_lens."""
    stored = permalinks.whole(caller.questions, await stored_result(caller, name))
    needed = await offloop.draw(as_stored, partial(exports.needed_means, stored))
    means = await caller.run(stored.model, stored_answers.means, needed, kind="permalink") if needed else {}
    rows: Any = None
    drawn: Any = ()
    if stored.kind == SWEEP:
        found = await offloop.draw(as_stored, partial(_of_sweep, caller, stored))
        rows, drawn = found.rows, found.drawn
    if stored.kind in caller.questions and caller.questions[stored.kind].every_row is not None:
        question, asked = permalinks.request_of(caller.questions, stored)
        assert question.every_row is not None
        first = stored.request["token_ids"]
        rows = await caller.run(stored.model, question.every_row.function, asked, first, kind="permalink")
    served = caller.host.entries.get(stored.model)
    # Where a model lies on this machine is nobody's business but an administrator's.
    folder = served.folder if served and caller.identity.is_admin else None
    made = partial(as_stored, lambda: exports.notebook(stored, means, rows, drawn, folder and folder.resolve()))
    return exports.attachment(made, f"nullscope-{stored.hash[:12]}.ipynb", "application/x-ipynb+json")


def _of_sweep(caller: Caller, stored: Result) -> Spots:
    """A few rows of the sweep and its numbers there; ConflictError where its files are not here, or are another's."""
    answer, sweeps = results.answer_of(stored), caller.request.app.state.sweeps
    try:
        folder = sweeps.folder(answer["id"])
        found, manifest = sweeps.result(answer["id"]), folder.manifest()
        rows = RowSet.open(folder.path)
    except (NotFoundError, NotReadyError, OSError):
        manifest = None
    if manifest is None or manifest != answer["manifest"]:
        raise ConflictError(
            "The rows of this sweep are not here, so they cannot be computed again.",
            code="rows_gone",
            hint="Its JSON and CSV have the stored numbers; a new sweep has its rows.",
        )
    return spots(found, rows, [NeuronId.parse(name) for name in exports.swept(stored)])


@router.get("/r/{name}/page.html", include_in_schema=False)
async def standalone(name: str, caller: CallerDep) -> Response:
    """One file for a paper's supplement: the result, its request and its origin, no server needed."""
    view = await with_story(caller, *await recomputed(caller, name))

    def page() -> str:
        return pages.standalone(view, drawn(caller.questions, view))

    made = partial(as_stored, page) if view.verdict == "cached" else page
    return exports.attachment(made, f"nullscope-{view.hash[:12]}.html", "text/html")


def drawn(questions: Mapping[str, Question], saved: PermalinkView) -> dict[str, Callable[[], Any]]:
    """The charts of a stored result, those of its question; none for a kind that is a table only."""
    question = questions.get(saved.kind)
    if question is None or not question.charts:
        return {}
    view = question.view.model_validate(saved.result)
    return {name: partial(draw, view) for name, draw in question.charts.items()}
