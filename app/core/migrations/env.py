"""What Alembic runs: the migrations, on the connection that `Database.open` gives, or on `-x url=...` from a shell."""

from alembic import context
from sqlalchemy import Connection

from app.core.store.database import Database
from app.core.store.tables import Base


def migrate(connection: Connection) -> None:
    # batch: SQLite cannot alter a table, Alembic copies it instead.
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with Database(context.get_x_argument(as_dictionary=True)["url"]).engine.begin() as opened:
        migrate(opened)
