"""
A turn says which files it carries.

It never changes, and what is read most often needs no further query for it. In a transaction of its
own: one that held two tables would wait for whoever reads them the other way round.

Locks: ACCESS EXCLUSIVE on `turns`, for a moment: nothing is written into its rows.
Undo: drops the column; who carries a file is then known to nobody.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET LOCAL lock_timeout = '4s'")
        op.execute("SET LOCAL statement_timeout = '30s'")
    op.add_column("turns", sa.Column("attachments", sa.JSON()))


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET LOCAL lock_timeout = '4s'")
        op.execute("SET LOCAL statement_timeout = '30s'")
    op.drop_column("turns", "attachments")
