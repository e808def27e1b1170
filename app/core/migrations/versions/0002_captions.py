"""A result has a title and a caption."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("results", schema=None) as batch_op:
        batch_op.add_column(sa.Column("title", sa.String(length=120), server_default="", nullable=False))
        batch_op.add_column(sa.Column("caption", sa.Text(), server_default="", nullable=False))
