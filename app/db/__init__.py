"""The database: SQLite (WAL) in the data folder by default, any SQLAlchemy URL by setting.

    database = Database.of(settings); database.open()         # migrates a new one, refuses one of another version
    with database.session() as session: ...                   # commits at the end, rolls back on an exception

Everything here is synchronous; a handler calls it through `asyncio.to_thread`.
"""

from sqlalchemy.orm import Session

from app.db.database import Database
from app.db.tables import Base, Job

__all__ = ["Base", "Database", "Job", "Session"]
