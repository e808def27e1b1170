"""Notes, lists of neurons, pins, and the history of what was written when by whom."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.core.store.tables import NeuronList, Note, Pin, Revision

NOTE_FIELDS = ("target", "text")
LIST_FIELDS = ("name", "description", "model", "neurons")
Thing = Note | NeuronList


def fields_of(thing: Thing) -> tuple[str, ...]:
    return NOTE_FIELDS if isinstance(thing, Note) else LIST_FIELDS


def body(thing: Thing) -> dict[str, Any]:
    """What somebody wrote, without who and when."""
    return {name: getattr(thing, name) for name in fields_of(thing)}


def create(session: Session, kind: type[Note] | type[NeuronList], values: dict[str, Any], person: str) -> Any:
    now = time.time()
    made = kind(id=uuid.uuid4().hex, author=person, created=now, updated=now, **values)
    session.add(made)
    _record(session, made, person, now)
    return made


def change(session: Session, thing: Thing, values: dict[str, Any], person: str) -> None:
    """New values for some fields; what was there before stays in the history."""
    for name, value in values.items():
        setattr(thing, name, value)
    # A clock that was set back must not put an edit before what it edits.
    thing.updated = max(time.time(), thing.updated)
    _record(session, thing, person, thing.updated)


def remove(session: Session, thing: Thing) -> None:
    session.execute(delete(Revision).where(Revision.thing == thing.id))
    session.delete(thing)


def _record(session: Session, thing: Thing, person: str, at: float) -> None:
    session.add(Revision(thing=thing.id, author=person, at=at, body=body(thing)))


def history(session: Session, thing: Thing) -> Sequence[Revision]:
    """Newest first; the current state is the first. An import may hold a list's history under a note's id."""
    rows = session.scalars(select(Revision).where(Revision.thing == thing.id).order_by(Revision.id.desc()))
    return [row for row in rows if row.body.keys() == set(fields_of(thing))]


def notes(session: Session, *, target: str | None, offset: int, limit: int) -> tuple[int, Sequence[Note]]:
    """(how many, newest first): of one target, or all."""
    where = [] if target is None else [Note.target == target]
    total = session.scalar(select(func.count()).select_from(Note).where(*where)) or 0
    query = select(Note).where(*where).order_by(Note.updated.desc(), Note.id).offset(offset).limit(limit)
    return total, session.scalars(query).all()


def lists(session: Session, *, model: str | None = None) -> Sequence[NeuronList]:
    where = [] if model is None else [NeuronList.model == model]
    return session.scalars(select(NeuronList).where(*where).order_by(func.lower(NeuronList.name), NeuronList.id)).all()


def pins(session: Session, person: str) -> Sequence[Pin]:
    return session.scalars(select(Pin).where(Pin.person == person).order_by(Pin.created.desc())).all()


def pin(session: Session, person: str, target: str) -> None:
    if session.get(Pin, (person, target)) is None:
        session.add(Pin(person=person, target=target, created=time.time()))


def unpin(session: Session, person: str, target: str) -> None:
    session.execute(delete(Pin).where(Pin.person == person, Pin.target == target))
