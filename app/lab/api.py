"""Notes, lists of neurons, pins; export and import of all of it."""

from typing import Annotated, Any, TypeVar

from fastapi import Query, Request
from pydantic import BaseModel, Field

from analysis.types import NotFoundError
from app.core import offloop
from app.core.access.roles import door
from app.core.answering import router as routes
from app.core.bodies import sent_file
from app.core.caller import Caller, CallerDep
from app.core.errors import ForbiddenError
from app.core.notes import listed, may_change, note_view
from app.core.notes_view import NotesView, NoteView
from app.core.store import Session, transfer
from app.core.store import notes as stored
from app.core.store.tables import NeuronList, Note
from app.lab import importing, to_view
from app.lab import request as requests
from app.lab import view as views
from app.lab.transfer import ImportRequest, whole_schema

router = routes(prefix="/api/v1", tags=["notes"])
T = TypeVar("T", Note, NeuronList)
# The body is read off the event loop, so its schema is told here.
IMPORTED = {"requestBody": {"required": True, "content": {"application/json": {"schema": whole_schema(ImportRequest)}}}}


class NotesQuery(BaseModel):
    """Which notes: of one target, or all."""

    target: requests.Target | None = None
    offset: int = Field(0, ge=0, le=10_000_000)
    limit: int = Field(50, ge=1, le=500)


def existing(session: Session, kind: type[T], name: str) -> T:
    thing = session.get(kind, name)
    if thing is None:
        what = "note" if kind is Note else "list"
        raise NotFoundError(f"There is no such {what} here.", code=f"unknown_{what}", hint="It may have been deleted.")
    return thing


def own(session: Session, kind: type[T], name: str, caller: Caller) -> T:
    thing = existing(session, kind, name)
    if not may_change(thing.author, caller.identity):
        raise ForbiddenError(f"Only {thing.author} can change this.", code="not_yours", hint="Write one of your own.")
    return thing


@router.get("/notes")
async def notes(caller: CallerDep, query: Annotated[NotesQuery, Query()]) -> NotesView:
    """Notes, newest first."""
    return await listed(caller, query.target, offset=query.offset, limit=query.limit)


@router.post("/notes", status_code=201)
async def write(body: requests.NoteRequest, caller: CallerDep) -> NoteView:
    """A new note on a neuron or a permalink."""
    made = await caller.write(stored.create, Note, body.model_dump(), caller.person)
    return note_view(made, caller.identity, caller.root)


@router.put("/notes/{name}")
async def edit(name: str, body: requests.NoteEdit, caller: CallerDep) -> NoteView:
    """Another text; the one before stays in the history."""

    def work(session: Session) -> Note:
        note = own(session, Note, name, caller)
        stored.change(session, note, body.model_dump(), caller.person)
        return note

    return note_view(await caller.write(work), caller.identity, caller.root)


@router.delete("/notes/{name}")
async def delete(name: str, caller: CallerDep) -> NotesView:
    """Delete a note with its history; answers with what is left on its target."""

    def work(session: Session) -> str:
        note = own(session, Note, name, caller)
        stored.remove(session, note)
        return note.target

    return await notes(caller, NotesQuery(target=await caller.write(work)))


@router.get("/notes/{name}/history")
async def note_history(name: str, caller: CallerDep) -> views.HistoryView:
    """Every text that a note had, newest first."""
    return await _history(caller, Note, name)


async def _history(caller: Caller, kind: type[Note] | type[NeuronList], name: str) -> views.HistoryView:
    def work(session: Session) -> Any:
        return stored.history(session, existing(session, kind, name))  # type: ignore[type-var]

    return views.HistoryView(rows=[to_view.revision(row) for row in await caller.read(work)])


@router.get("/lists")
async def lists(caller: CallerDep, model: str | None = None) -> views.ListsView:
    """Lists of neurons by name; of one model, or all."""
    rows = await caller.read(stored.lists, model=model)
    return views.ListsView(rows=[to_view.neuron_list(row, caller.identity) for row in rows])


@router.post("/lists", status_code=201)
async def make_list(body: requests.ListRequest, caller: CallerDep) -> views.ListView:
    """A new list."""
    values = {**body.model_dump(), "neurons": list(dict.fromkeys(body.neurons))}
    made = await caller.write(stored.create, NeuronList, values, caller.person)
    return to_view.neuron_list(made, caller.identity)


@router.get("/lists/{name}")
async def one_list(name: str, caller: CallerDep) -> views.ListView:
    """One list."""
    return to_view.neuron_list(await caller.read(existing, NeuronList, name), caller.identity)


@router.put("/lists/{name}")
async def edit_list(name: str, body: requests.ListEdit, caller: CallerDep) -> views.ListView:
    """Change what is given; what was before stays in the history."""
    values = {key: value for key, value in body.model_dump().items() if value is not None}
    if "neurons" in values:
        values["neurons"] = list(dict.fromkeys(values["neurons"]))

    def work(session: Session) -> NeuronList:
        found = own(session, NeuronList, name, caller)
        stored.change(session, found, values, caller.person)
        return found

    return to_view.neuron_list(await caller.write(work), caller.identity)


@router.delete("/lists/{name}")
async def delete_list(name: str, caller: CallerDep) -> views.ListsView:
    """Delete a list with its history; answers with the lists that are left."""
    await caller.write(lambda session: stored.remove(session, own(session, NeuronList, name, caller)))
    return await lists(caller)


@router.get("/lists/{name}/history")
async def list_history(name: str, caller: CallerDep) -> views.HistoryView:
    """Every state of a list, newest first."""
    return await _history(caller, NeuronList, name)


@router.get("/pins")
async def pins(caller: CallerDep) -> views.PinsView:
    """What I keep at hand."""
    return views.PinsView(rows=[to_view.pin(row, caller.root) for row in await caller.read(stored.pins, caller.person)])


@router.post("/pins")
async def pin(body: requests.PinRequest, caller: CallerDep) -> views.PinsView:
    """Pin a neuron or a permalink; twice is once."""
    await caller.write(stored.pin, caller.person, body.target)
    return await pins(caller)


@router.delete("/pins")
async def unpin(target: requests.Target, caller: CallerDep) -> views.PinsView:
    """Unpin it."""
    await caller.write(stored.unpin, caller.person, target)
    return await pins(caller)


@router.get("/export")
async def export(caller: CallerDep) -> views.ExportView:
    """Every note, list, pin and result with its history, as `import` takes it back."""
    return views.ExportView(**await caller.read(transfer.export))


@router.post("/import", openapi_extra=IMPORTED)
@door("admin")
async def take_in(request: Request, caller: CallerDep) -> views.ImportView:
    """Take in an export; what is here already stays as it is."""
    return await taken(caller, await sent_file(request))


async def taken(caller: Caller, body: bytes) -> views.ImportView:
    """An export read, checked and stored; none of it on the event loop, which it would stop for seconds."""
    kinds = importing.Kinds(caller.questions, caller.request.app.state.others)
    vocabularies = {model.weights_sha256: model.d_vocab for model in caller.host.loaded()}
    given = await offloop.take(importing.read, kinds, body, caller.settings, vocabularies)
    counts = await caller.write(transfer.take_in, given.model_dump())
    return views.ImportView(**{key: counts[key] for key in ("notes", "lists", "pins", "results")})
