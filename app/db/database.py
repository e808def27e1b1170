"""Connection, migrations at start, transactions, and database errors in this program's words."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from analysis.types import InputError
from app.errors import UnavailableError
from app.settings import Settings

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent.parent / "migrations"
BUSY_SECONDS = 10.0  # how long a writer of SQLite waits for another one


class SchemaVersionError(InputError):
    """The database belongs to another version of this program."""


class Database:
    """One engine for the process. Give each unit of work its own `session()`."""

    def __init__(self, url: str | URL) -> None:
        try:
            self.url = make_url(url)
            self.engine = _engine(self.url)
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
    def shown(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def path(self) -> Path | None:
        """The file of a SQLite database."""
        return Path(self.url.database) if self.url.get_backend_name() == "sqlite" and self.url.database else None

    def open(self) -> None:
        """Create or migrate the tables; SchemaVersionError for a database that a newer program has written."""
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with translated():
            version, head = self.version(), self.head()
            if version == head:
                return
            known = {script.revision for script in _scripts().walk_revisions()}
            if version is not None and version not in known:
                raise SchemaVersionError(
                    f"The database {self.shown} has schema {version}; this program knows up to {head}.",
                    code="schema_version",
                    hint="Start the newer version of the program, or restore a backup made with this one.",
                )
            log.info("database schema %s -> %s", version or "none", head)
            with self.engine.begin() as connection:
                config = _config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")

    def close(self) -> None:
        self.engine.dispose()

    def version(self) -> str | None:
        """Revision of the schema that the database has; None for an empty one."""
        with self.engine.connect() as connection:
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
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    def tables(self) -> list[str]:
        return inspect(self.engine).get_table_names()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back when anything is raised."""
        with translated(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session


@contextmanager
def translated() -> Iterator[None]:
    """A database that is locked, full or away is 503 with its reason; anything else stays a fault of ours."""
    try:
        yield
    except DBAPIError as error:
        reason = str(error.orig or error)
        if not _passing(reason) and not error.connection_invalidated:
            raise
        log.error("database: %s", reason)
        raise UnavailableError(
            "The database cannot be written or reached now.",
            code="database_unavailable",
            retry_after=5,
            hint=f"Nothing was saved by this request. The database says: {reason.splitlines()[0][:120]}.",
        ) from None


def _passing(reason: str) -> bool:
    """Whether the fault lies in the database's surroundings, not in what was asked of it."""
    signs = (
        *("locked", "disk is full", "disk I/O", "readonly", "unable to open"),
        *("connection", "No space left", "terminat", "recovery mode", "starting up", "shutting down"),
    )
    return any(sign in reason for sign in signs)


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=10)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _set_pragmas)
    return engine


def _set_pragmas(connection: object, record: object) -> None:
    """WAL: readers never wait for the writer. FULL: what was committed survives a power cut."""
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={int(BUSY_SECONDS * 1000)}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
