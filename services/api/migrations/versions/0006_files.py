"""
Files, and which turn carries which.

Locks: SHARE ROW EXCLUSIVE on `turns`, for a moment, for the foreign key of a table that is empty.
Undo: drops both tables; the bytes stay in the file store, and nobody knows whose.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

TABLES = ("files", "turn_attachments")


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:
        op.execute("SET LOCAL lock_timeout = '4s'")
        op.execute("SET LOCAL statement_timeout = '30s'")
    create_files()
    create_turn_attachments()
    if postgresql:
        for table in TABLES:
            keep_apart(table)


def create_files() -> None:
    op.create_table(
        "files",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_files"),
        sa.CheckConstraint("size >= 0", name="ck_files_size"),
    )
    op.create_index("ix_files_id", "files", ["id"])


def create_turn_attachments() -> None:
    op.create_table(
        "turn_attachments",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "turn_id", "file_id", name="pk_turn_attachments"),
        sa.ForeignKeyConstraint(
            ["user_id", "turn_id"],
            ["turns.user_id", "turns.id"],
            name="fk_turn_attachments_user_id_turn_id_turns",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id", "file_id"],
            ["files.user_id", "files.id"],
            name="fk_turn_attachments_user_id_file_id_files",
        ),
    )
    op.create_index(
        "ix_turn_attachments_user_id_file_id", "turn_attachments", ["user_id", "file_id"]
    )


def keep_apart(table: str) -> None:
    # FORCE: the table's owner too sees what the transaction's user may see. NULLIF: what a
    # transaction set is '' after it, and '' is nobody.
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY {table}_owner ON {table} "
        "USING (user_id = nullif(current_setting('app.user_id', true), '')) "
        "WITH CHECK (user_id = nullif(current_setting('app.user_id', true), ''))"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET LOCAL lock_timeout = '4s'")
        op.execute("SET LOCAL statement_timeout = '30s'")
    op.drop_table("turn_attachments")
    op.drop_table("files")
