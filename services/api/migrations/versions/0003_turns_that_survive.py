"""
How often a worker's turns were asked to end, and which turn one is to take the place of.

Locks: ACCESS EXCLUSIVE on `workers` and `turns`, for a moment: nothing is written into their rows.
Undo: drops both columns; a turn is then cancelled by nobody.
Allows: ban-new-write-restriction, since who does not know `cancels` gets its default.
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
    op.add_column("turns", sa.Column("replaces", sa.Uuid()))


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET LOCAL lock_timeout = '4s'")
        op.execute("SET LOCAL statement_timeout = '30s'")
    op.drop_column("turns", "replaces")
    op.drop_column("workers", "cancels")
