"""Everything that people wrote as plain values and back, and a copy of the whole database."""

import base64
import contextlib
import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Table, insert, select
from sqlalchemy.orm import Session

from analysis.files import disk_full, on_disk, replaced
from analysis.types import InputError
from app.core.store.database import Database
from app.core.store.tables import Asked, Base, NeuronList, Note, Pin, Result, Revision

# What an export holds, in an order in which it can be taken in.
EXPORTED = {"results": Result, "asked": Asked, "notes": Note, "lists": NeuronList, "revisions": Revision, "pins": Pin}


def export(session: Session) -> dict[str, list[dict[str, Any]]]:
    """All rows of the exported tables; bytes as base64."""
    return {
        name: [_plain(row._mapping) for row in session.execute(select(_table(kind)))] for name, kind in EXPORTED.items()
    }


def take_in(session: Session, given: Mapping[str, Iterable[dict[str, Any]]]) -> dict[str, int]:
    """Rows, as `export` gave them and checked by `app.lab.transfer`, that are not here yet; how many of each."""
    counts = {}
    for name, kind in EXPORTED.items():
        counts[name] = 0
        for row in given.get(name, ()):
            values = _packed(kind, row)
            if not _is_here(session, kind, values):
                session.execute(insert(kind).values(**values))
                counts[name] += 1
    return counts


def _is_here(session: Session, kind: type[Base], values: Mapping[str, Any]) -> bool:
    """By its key; a revision, whose key is a number of each database's own, by whose, who and when."""
    table = _table(kind)
    names = ("thing", "author", "at") if kind is Revision else table.primary_key.columns.keys()
    return session.execute(select(1).where(*(table.c[name] == values[name] for name in names))).first() is not None


def _packed(kind: type[Base], row: Mapping[str, Any]) -> dict[str, Any]:
    """Bytes from base64; a revision without the number that it had elsewhere."""
    columns = [column for column in _table(kind).columns if not (kind is Revision and column.primary_key)]
    binary = {column.name for column in columns if column.type.python_type is bytes}
    return {c.name: base64.b64decode(row[c.name]) if c.name in binary else row[c.name] for c in columns}


def _table(kind: type[Base]) -> Table:
    table = kind.__table__
    assert isinstance(table, Table)
    return table


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    plain = {str(name): value for name, value in row.items()}
    return {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in plain.items()}


def backup(database: Database, target: Path) -> None:
    """A consistent copy of a SQLite database while it is in use; written to a temporary name and renamed."""
    source = _file(database, "backup")
    if not source.is_file():
        raise InputError(f"There is no database at {source}.", code="no_database", hint="Name the data folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replaced(target) as temporary:
            _copy(source, temporary)
    except sqlite3.Error as error:
        if "disk is full" in str(error):
            raise disk_full(target.name) from None
        raise InputError(
            f"The database {source} cannot be backed up: {error}.",
            code="database_damaged",
            hint="Keep the file, and put the last good backup in its place: nullscope restore FILE --yes",
        ) from None


def _copy(source: Path, target: Path) -> None:
    """sqlite3.Error for a database that cannot be read, or whose copy is not whole."""
    with contextlib.closing(sqlite3.connect(source)) as there, contextlib.closing(sqlite3.connect(target)) as here:
        there.backup(here)
        here.execute("PRAGMA journal_mode=DELETE")
        state = here.execute("PRAGMA integrity_check").fetchone()[0]
    if state != "ok":
        raise sqlite3.DatabaseError(str(state).splitlines()[0])


def restore(database: Database, source: Path) -> None:
    """Put a backup in the place of the database; InputError when it is no whole database of this program."""
    target = _file(database, "restore")
    try:
        with contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as file:
            state = file.execute("PRAGMA integrity_check").fetchone()[0]
            version = file.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    except sqlite3.Error as error:
        raise InputError(f"{source} is not a backup: {error}.", code="no_backup") from None
    if state != "ok":
        raise InputError(f"{source} is damaged: {state}.", code="no_backup")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".restoring")
    try:
        with on_disk(target.name):
            shutil.copyfile(source, temporary)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    copy = Database(URL.create("sqlite", database=str(temporary)))
    copy.open()  # migrates an older one, refuses one of a newer program: before anything is replaced
    copy.close()
    for suffix in ("-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
        temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
    temporary.replace(target)
    assert version


def _file(database: Database, verb: str) -> Path:
    if database.path is None:
        tool = "pg_dump" if verb == "backup" else "pg_restore"
        raise InputError(
            f"{verb} copies a SQLite file; this database is {database.address}.", code="not_sqlite", hint=f"Use {tool}."
        )
    return database.path
