"""Connection, migrations at start, transactions, and database errors in this program's words."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from analysis.types import InputError
from app.core.errors import UnavailableError
from app.core.settings import Settings

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent.parent / "migrations"
BUSY_SECONDS = 5.0  # how long a writer of SQLite waits for another one
READ_SECONDS = 1.0  # a reader waits for a whole file that is locked only: in WAL, a writer is none of its business


DAMAGE = ("malformed", "not a database", "no such table", "no such column")
"""What SQLite says of a file that is not, or not wholly, what this program wrote."""


RESTORE = "Put a backup back: nullscope restore FILE --yes; or move the file away to begin with an empty one."


class SchemaVersionError(InputError):
    """The database belongs to another version of this program."""


class Database:
    """What the process reads and writes. Give each unit of work its own `reading()` or `session()`.

    In SQLite these are connections of two kinds: one cannot write and waits for no writer, the other takes the lock
    when it begins, so that what it has read is still true when it writes.
    """

    def __init__(self, url: str | URL) -> None:
        try:
            self.url = make_url(url)
            self.engine = _engine(self.url)
            self.reader = _reader(self.url, self.engine)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise InputError(
                f"The database URL cannot be used: {type(error).__name__}.",
                code="database_url",
                hint="For example postgresql+psycopg://user@host/nullscope (pip install 'nullscope[postgres]').",
            ) from None

    @classmethod
    def of(cls, settings: Settings) -> "Database":
        """The one that the settings name; by default `nullscope.sqlite` in the data folder."""
        if settings.database_url is not None:
            return cls(settings.database_url.get_secret_value())
        return cls(URL.create("sqlite", database=str(settings.data_dir / "nullscope.sqlite")))

    @property
    def address(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def path(self) -> Path | None:
        """The file of a SQLite database."""
        return Path(self.url.database) if self.url.get_backend_name() == "sqlite" and self.url.database else None

    def open(self) -> None:
        """Create or migrate the tables.

        SchemaVersionError for a database that a newer program has written, InputError for one that is damaged,
        UnavailableError for one that cannot be reached.
        """
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._told():
            version, head = self.version(), self.head()
            if version == head:
                return
            known = {script.revision for script in _scripts().walk_revisions()}
            if version is not None and version not in known:
                raise SchemaVersionError(
                    f"The database {self.address} has schema {version}; this program knows up to {head}.",
                    code="schema_version",
                    hint="Start the newer version of the program, or restore a backup made with this one.",
                )
            log.info("database schema %s -> %s", version or "none", head)
            with self.engine.begin() as connection:
                config = _config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A database that is no use, in one sentence."""
        try:
            yield
        except (SQLAlchemyError, CommandError, UnicodeError) as error:
            if isinstance(error, DBAPIError) and (passing := _passing(error)) is not None:
                raise passing from None
            raise InputError(
                f"The database {self.address} cannot be used: {_reason(error)}.",
                code="database_damaged",
                hint="Ask whoever keeps the database's server." if self.path is None else RESTORE,
            ) from None

    def close(self) -> None:
        self.engine.dispose()
        self.reader.dispose()

    def version(self) -> str | None:
        """Revision of the schema that the database has; None for an empty one."""
        with self.reader.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    @staticmethod
    def head() -> str:
        """Revision of the schema that this program wants."""
        found = _scripts().get_current_head()
        assert found is not None
        return found

    def answers(self) -> bool:
        """Whether a query succeeds: for /readyz."""
        try:
            with self.reader.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    def tables(self) -> list[str]:
        return inspect(self.reader).get_table_names()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One state of the database, to be read only; no writer is waited for."""
        with translated(), Session(self.reader, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction that writes: committed at the end, rolled back when anything is raised."""
        with translated(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session


@contextmanager
def translated() -> Iterator[None]:
    """A database that is locked, full, away or damaged is 503 with its reason; anything else stays a fault of ours."""
    try:
        yield
    except DBAPIError as error:
        found = _passing(error)
        if found is None and any(sign in _reason(error) for sign in DAMAGE):
            log.error("the database is damaged: %s. %s", _reason(error), RESTORE)
            hint = "The operator must put a backup back."
            found = UnavailableError("The database is damaged.", code="database_damaged", hint=hint)
        if found is None:
            raise
        raise found from None


def _passing(error: DBAPIError) -> UnavailableError | None:
    """What to answer where the fault lies in the database's surroundings, not in what was asked of it."""
    reason = _reason(error)
    signs = (
        *("locked", "disk is full", "disk I/O", "readonly", "unable to open"),
        *("connection", "No space left", "terminat", "recovery mode", "starting up", "shutting down"),
    )
    if not error.connection_invalidated and not any(sign in reason for sign in signs):
        return None
    log.error("database: %s", reason)
    return UnavailableError(
        "The database cannot be written or reached now.",
        code="database_unavailable",
        retry_after=5,
        hint=f"Nothing was saved by this request. The database says: {reason[:120]}.",
    )


def _reason(error: Exception) -> str:
    """What the database says, in a line."""
    return (str(getattr(error, "orig", None) or error).strip().splitlines() or ["no reason"])[0][:300]


def _engine(url: URL) -> Engine:
    """Of what writes."""
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=10)
    return _sqlite(url, BUSY_SECONDS, "BEGIN IMMEDIATE", ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"))


def _reader(url: URL, writer: Engine) -> Engine:
    """Of what only reads."""
    if url.get_backend_name() != "sqlite":
        return writer.execution_options(postgresql_readonly=True)
    return _sqlite(url, READ_SECONDS, "BEGIN", ("journal_mode=WAL", "query_only=ON")) if url.database else writer


def _sqlite(url: URL, patience: float, begin: str, pragmas: tuple[str, ...]) -> Engine:
    """WAL: readers never wait for the writer. FULL: what was committed survives a power cut."""

    def opened(connection: Any, record: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        for pragma in (f"busy_timeout={int(patience * 1000)}", *pragmas):
            connection.execute(f"PRAGMA {pragma}")

    engine = create_engine(url, connect_args={"timeout": patience}, pool_size=8, max_overflow=16)  # app.core.offloop
    event.listen(engine, "connect", opened)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
