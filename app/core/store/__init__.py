"""The database: SQLite (WAL) in the data folder by default, any SQLAlchemy URL by setting.

    database = Database.of(settings); database.open()         # migrates a new one, refuses one of another version
    with database.reading() as session: ...                   # reads, and waits for no writer
    with database.session() as session: ...                   # writes: commits at the end, rolls back on an exception

Everything here is synchronous; a handler calls it through `app.core.offloop` (`caller.read`, `caller.write`).
"""

from sqlalchemy.orm import Session

from app.core.store.database import Database
from app.core.store.tables import Base, Job

__all__ = ["Base", "Database", "Job", "Session"]
