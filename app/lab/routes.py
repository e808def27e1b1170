"""The lab page: results, notes, lists and pins; plain forms that answer with a redirect."""

from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Form, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile

from analysis.grammar import listed
from analysis.types import InputError
from app.core import notes, pages
from app.core.access.roles import door
from app.core.answering import router as routes
from app.core.caller import CallerDep
from app.core.drawn import Drawn
from app.core.store import Session, results
from app.core.store import notes as stored
from app.core.store.tables import NeuronList, Note
from app.lab import api, comparison, to_view
from app.lab.page_view import LabView, NotePageView
from app.lab.request import ListEdit, ListRequest, NoteEdit, NoteRequest, PinRequest

router = routes(prefix="/lab", include_in_schema=False)
Field_ = Annotated[str, Form()]


class LabQuery(BaseModel):
    """Whose results the page lists."""

    who: Literal["mine", "lab"] = "mine"
    offset: int = Field(0, ge=0, le=10_000_000)
    limit: int = Field(20, ge=1, le=200)
    model: str | None = None
    format: str = "html"


@router.get("")
async def lab(request: Request, caller: CallerDep, query: Annotated[LabQuery, Query()]) -> Response:
    """Everything that is written down here."""

    def work(session: Session) -> dict[str, Any]:
        person = caller.person if query.who == "mine" else None
        total, rows = results.recent(session, person=person, offset=query.offset, limit=query.limit)
        _, written = stored.notes(session, target=None, offset=0, limit=30)
        return {
            "total": total,
            "rows": [comparison.row(row, caller.root) for row in rows],
            "notes": [notes.note_view(note, caller.identity, caller.root) for note in written],
            "lists": [to_view.neuron_list(found, caller.identity) for found in stored.lists(session)],
            "pins": [to_view.pin(pin, caller.root) for pin in stored.pins(session, caller.person)],
        }

    view = LabView(
        **await caller.read(work),
        **query.model_dump(include={"who", "offset", "limit"}),
        person=caller.person,
        role=caller.identity.role,
        logged_in=caller.identity.key_id is not None,
        models=list(caller.host.entries),
    )
    return pages.respond(request, view, template="lab/lab.html", title="Lab", model=query.model)


@router.get("/notes/{name}")
async def note(name: str, request: Request, caller: CallerDep) -> Response:
    """A note with its history."""
    found = await caller.read(api.existing, Note, name)
    history = await api.note_history(name, caller)
    view = NotePageView(note=notes.note_view(found, caller.identity, caller.root), rows=history.rows)
    return pages.respond(request, view, template="lab/note.html", title="Note")


@router.post("/notes")
async def write(request: Request, caller: CallerDep, target: Field_, text: Field_) -> Response:
    """A new note, on a permalink or `model/3.17`."""
    named = target if target.startswith(("neuron:", "result:")) else f"neuron:{target.strip()}"
    await api.write(NoteRequest(target=named, text=_lf(text)), caller)
    return _back(request, named)


@router.post("/notes/{name}")
async def edit(name: str, request: Request, caller: CallerDep, text: Field_) -> Response:
    """Another text."""
    view = await api.edit(name, NoteEdit(text=_lf(text)), caller)
    return _back(request, view.target)


@router.post("/notes/{name}/delete")
async def delete(name: str, request: Request, caller: CallerDep) -> Response:
    """Delete it with its history."""
    found = await caller.read(api.existing, Note, name)
    await api.delete(name, caller)
    return _back(request, found.target)


@router.post("/lists")
async def make_list(
    request: Request, caller: CallerDep, name: Field_, model: Field_, neurons: Field_ = "", description: Field_ = ""
) -> Response:
    """A new list; neurons separated by spaces or commas."""
    await api.make_list(
        ListRequest(name=name, model=model, neurons=listed(neurons), description=_lf(description)), caller
    )
    return pages.redirect(request, "/lab#lists")


@router.post("/lists/{name}")
async def edit_list(
    name: str, request: Request, caller: CallerDep, title: Field_, neurons: Field_ = "", description: Field_ = ""
) -> Response:
    """The list as the form has it now."""
    await api.edit_list(name, ListEdit(name=title, neurons=listed(neurons), description=_lf(description)), caller)
    return pages.redirect(request, "/lab#lists")


@router.post("/lists/{name}/delete")
async def delete_list(name: str, request: Request, caller: CallerDep) -> Response:
    """Delete a list with its history."""
    await caller.write(lambda session: stored.remove(session, api.own(session, NeuronList, name, caller)))
    return pages.redirect(request, "/lab#lists")


@router.post("/pins")
async def pin(request: Request, caller: CallerDep, target: Field_) -> Response:
    """Keep it at hand."""
    await api.pin(PinRequest(target=target), caller)
    return pages.redirect(request, "/lab#pins")


@router.post("/pins/delete")
async def unpin(request: Request, caller: CallerDep, target: Field_) -> Response:
    """Not any more."""
    await api.unpin(PinRequest(target=target).target, caller)
    return pages.redirect(request, "/lab#pins")


@router.get("/export")
async def export(caller: CallerDep) -> Response:
    """The whole of it as a file."""
    view = await api.export(caller)
    headers = {"Content-Disposition": 'attachment; filename="nullscope-export.json"'}
    return Drawn(view.model_dump_json, 200, headers, "application/json")


@router.post("/import")
@door("admin")
async def take_in(request: Request, caller: CallerDep) -> Response:
    """A file that `export` gave."""
    upload = (await request.form()).get("file")
    if not isinstance(upload, UploadFile):
        raise InputError("No file was sent.", code="no_file", hint="Choose a file that Export gave.")
    await api.taken(caller, await upload.read())
    return pages.redirect(request, "/lab")


def _lf(text: str) -> str:
    return text.replace("\r\n", "\n")


def _back(request: Request, target: str) -> Response:
    """To what the note is about."""
    kind, _, name = target.partition(":")
    model, _, neuron = name.partition("/")
    return pages.redirect(request, f"/r/{name}#notes" if kind == "result" else f"/m/{quote(model)}/n/{neuron}#notes")
