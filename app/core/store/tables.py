"""The tables. Times are seconds since 1970 (UTC) as double precision: the same in SQLite and PostgreSQL.

A change here needs a migration in `app/migrations/versions`; a test compares the two.
"""

from typing import Any

from sqlalchemy import JSON, Double, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """All tables of the program."""

    type_annotation_map = {float: Double, dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012


class Result(Base):
    """An answer under the hash of its canonical request: what a permalink names."""

    __tablename__ = "results"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    model: Mapped[str] = mapped_column(String(200))
    weights_sha256: Mapped[str] = mapped_column(String(64))
    request: Mapped[dict[str, Any]]
    versions: Mapped[dict[str, Any]]
    answer: Mapped[bytes] = mapped_column(LargeBinary)  # JSON, zlib
    preview: Mapped[str] = mapped_column(String(200))
    author: Mapped[str] = mapped_column(String(100))
    created: Mapped[float]
    # What its author says of it; empty: what its numbers say.
    title: Mapped[str] = mapped_column(String(120), default="", server_default="")
    caption: Mapped[str] = mapped_column(Text, default="", server_default="")

    __table_args__ = (Index("ix_results_created", "created"),)


class Asked(Base):
    """Who has asked for a result: it is in the list of each of them, and goes when the last one deletes it."""

    __tablename__ = "asked"

    person: Mapped[str] = mapped_column(String(100), primary_key=True)
    hash: Mapped[str] = mapped_column(ForeignKey("results.hash", ondelete="CASCADE"), primary_key=True, index=True)
    at: Mapped[float]


class Note(Base):
    """A note on a neuron of a model, or on a permalink."""

    __tablename__ = "notes"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    target: Mapped[str] = mapped_column(String(300))  # "neuron:<model>/<layer.index>" or "result:<hash>"
    text: Mapped[str] = mapped_column(Text)
    author: Mapped[str] = mapped_column(String(100))
    created: Mapped[float]
    updated: Mapped[float]

    __table_args__ = (Index("ix_notes_target", "target"), Index("ix_notes_updated", "updated"))


class NeuronList(Base):
    """A named set of neurons of one model."""

    __tablename__ = "lists"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    description: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(String(200))
    neurons: Mapped[list[str]]
    author: Mapped[str] = mapped_column(String(100))
    created: Mapped[float]
    updated: Mapped[float]


class Revision(Base):
    """What a note or list was, whenever somebody wrote it: the edit history, the current state included."""

    __tablename__ = "revisions"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    thing: Mapped[str] = mapped_column(String(32), index=True)  # id of the note or list
    author: Mapped[str] = mapped_column(String(100))
    at: Mapped[float]
    body: Mapped[dict[str, Any]]


class Pin(Base):
    """What a person keeps at hand: a neuron or a permalink, named like the target of a note."""

    __tablename__ = "pins"

    person: Mapped[str] = mapped_column(String(100), primary_key=True)
    target: Mapped[str] = mapped_column(String(300), primary_key=True)
    created: Mapped[float]


class Login(Base):
    """A browser's session: the digest of the cookie's secret, never the secret."""

    __tablename__ = "logins"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    person: Mapped[str] = mapped_column(String(100))
    key_id: Mapped[str] = mapped_column(String(32))  # the key it was opened with; revoked with it
    expires: Mapped[float]


class Job(Base):
    """A durable piece of long work. Its files are its own; this row is what survives a restart."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    model: Mapped[str] = mapped_column(String(200))
    person: Mapped[str] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(20), index=True)
    config: Mapped[dict[str, Any]]
    stage: Mapped[str] = mapped_column(String(200), default="")
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    message: Mapped[str | None] = mapped_column(Text, default=None)
    created: Mapped[float]
    updated: Mapped[float]
