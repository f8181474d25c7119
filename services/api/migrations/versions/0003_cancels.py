"""
How often a worker's turns were asked to end, so that it learns of it without looking at each.

Locks: ACCESS EXCLUSIVE on `workers`, a row a process, for a moment: the default is not written anywhere.
Undo: drops the column; a turn is then cancelled by nobody.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET LOCAL lock_timeout = '4s'")
        op.execute("SET LOCAL statement_timeout = '30s'")
    op.add_column(
        "workers", sa.Column("cancels", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET LOCAL lock_timeout = '4s'")
        op.execute("SET LOCAL statement_timeout = '30s'")
    op.drop_column("workers", "cancels")
