"""Answers under the hash of their canonical request, and who asked for them."""

import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, exists, func, literal, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, load_only

from app.core.errors import QuotaError
from app.core.store.tables import Asked, Note, Pin, Result

REMEDY = "Delete some in your list on the page Lab, or DELETE /api/v1/results/HASH."
PREVIEW = 80  # characters of a prompt that the lists show


@dataclass(frozen=True)
class NewResult:
    """What is kept of one answer."""

    hash: str
    request: dict[str, Any]  # canonical: kind, model, weights_sha256, token_ids, options
    versions: dict[str, str]
    answer: str  # JSON
    preview: str


def keep(session: Session, new: NewResult, person: str, quota: int | None = None) -> None:
    """Store an answer; one that is there already stays as it is, and `person` has asked for it too.

    QuotaError when what this person has asked for would take more than `quota` bytes with it; None: no bound.
    """
    now = time.time()
    answer = None if is_kept(session, new.hash) else zlib.compress(new.answer.encode(), 6)
    if answer is not None:
        if quota is not None:
            QuotaError.check("results", taken(session, person), len(answer), quota, REMEDY)
        row = {
            "hash": new.hash,
            "kind": new.request["kind"],
            "model": new.request["model"],
            "weights_sha256": new.request["weights_sha256"],
            "request": new.request,
            "versions": new.versions,
            "answer": answer,
            "preview": short(new.preview),
            "author": person,
            "created": now,
        }
        _insert(session, Result, row)
    _insert(session, Asked, {"person": person, "hash": new.hash, "at": now})


def taken(session: Session, person: str) -> int:
    """Bytes of the answers in this person's list."""
    sizes = select(func.sum(func.length(Result.answer))).join(Asked).where(Asked.person == person)
    return int(session.scalar(sizes) or 0)


def expire(session: Session, before: float) -> int:
    """Remove what was last asked for before that time, but for what is pinned or noted; how many results."""
    session.execute(delete(Asked).where(Asked.at < before, ~_marked(Asked.hash)))
    left = exists().where(Asked.hash == Result.hash)
    gone = session.execute(delete(Result).where(Result.created < before, ~left, ~_marked(Result.hash)))
    return int(gone.rowcount)  # type: ignore[attr-defined]


def _marked(name: Any) -> Any:
    """Whether somebody has pinned a result or noted something on it."""
    target = literal("result:").concat(name)
    return or_(exists().where(Pin.target == target), exists().where(Note.target == target))


def is_kept(session: Session, name: str) -> bool:
    """Whether an answer is stored under this hash."""
    return session.get(Result, name, options=[load_only(Result.hash)]) is not None


def _insert(session: Session, table: type[Result] | type[Asked], row: dict[str, Any]) -> None:
    """Two requests may store the same at once: the second one finds it there, which is right."""
    dialect = session.get_bind().dialect.name
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    session.execute(insert(table).values(row).on_conflict_do_nothing())


def short(text: str) -> str:
    """One line, at most PREVIEW characters, nothing that a database refuses."""
    line = " ".join(text.replace("\0", "␀").split())
    return line if len(line) <= PREVIEW else line[: PREVIEW - 1] + "…"


def describe(session: Session, found: str, title: str, caption: str) -> None:
    """What a result is called and what is said of it, from now on; empty: what its numbers say."""
    result = session.get_one(Result, found)
    result.title, result.caption = title, caption


def get(session: Session, name: str) -> Result | None:
    """By the whole hash, or by a unique beginning of at least 8 characters."""
    if len(name) == 64:
        return session.get(Result, name)
    if len(name) < 8:
        return None
    found = session.scalars(select(Result).where(Result.hash.startswith(name, autoescape=True)).limit(2)).all()
    return found[0] if len(found) == 1 else None


def answer_of(result: Result) -> Any:
    return json.loads(zlib.decompress(result.answer))


def recent(session: Session, *, person: str | None, offset: int, limit: int) -> tuple[int, Sequence[Result]]:
    """(how many there are, newest first): those `person` asked for, or everybody's. Answers are not read."""
    columns = [column for name, column in Result.__mapper__.columns.items() if name != "answer"]
    light = load_only(*(getattr(Result, column.key) for column in columns), raiseload=True)
    query = select(Result).options(light)
    if person is None:
        total = session.scalar(select(func.count()).select_from(Result)) or 0
        query = query.order_by(Result.created.desc(), Result.hash)
    else:
        total = session.scalar(select(func.count()).select_from(Asked).where(Asked.person == person)) or 0
        query = query.join(Asked).where(Asked.person == person).order_by(Asked.at.desc(), Result.hash)
    return total, session.scalars(query.offset(offset).limit(limit)).all()


def forget(session: Session, name: str, person: str, *, everybody: bool) -> bool:
    """Take it out of `person`'s list; it is gone for all once nobody's list has it (or at once: an administrator)."""
    if everybody:
        taken = session.execute(delete(Asked).where(Asked.hash == name))
        gone = session.execute(delete(Result).where(Result.hash == name))
        return bool(taken.rowcount or gone.rowcount)  # type: ignore[attr-defined]
    asked = session.get(Asked, (person, name))
    if asked is None:
        return False
    session.delete(asked)
    session.flush()
    if session.scalar(select(func.count()).select_from(Asked).where(Asked.hash == name)) == 0:
        session.execute(delete(Result).where(Result.hash == name))
    return True
