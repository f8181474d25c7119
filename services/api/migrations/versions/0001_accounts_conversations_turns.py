"""
Accounts, conversations, turns, messages and workers, one user apart from the next.

Locks: none that matter (new tables only).
Undo: drops every table, so every account and every message is lost.
Allows: prefer-text-field, since Alembic makes its own table here.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

OWNER_COLUMNS = {
    "users": "id",
    "conversations": "user_id",
    "turns": "user_id",
    "messages": "user_id",
}


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:
        op.execute("SET LOCAL lock_timeout = '4s'")
        op.execute("SET LOCAL statement_timeout = '30s'")
    op.create_table(
        "conversations",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("instructions", sa.Text()),
        sa.Column("metadata", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_conversations"),
    )
    op.create_index(
        "ix_conversations_user_id_updated_at_id",
        "conversations",
        ["user_id", sa.literal_column("updated_at DESC"), sa.literal_column("id DESC")],
    )

    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
    op.create_table(
        "turns",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("fingerprint", sa.Text()),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("fence", sa.Uuid(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("problem", sa.JSON(none_as_null=True)),
        sa.Column("superseded_by", sa.Uuid()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "status IN ('running', 'complete', 'cancelled', 'failed')", name="ck_turns_status"
        ),
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id", "superseded_by"],
            ["turns.user_id", "turns.conversation_id", "turns.id"],
            name="fk_turns_user_id_conversation_id_superseded_by_turns",
        ),
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id"],
            ["conversations.user_id", "conversations.id"],
            name="fk_turns_user_id_conversation_id_conversations",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_turns"),
        sa.UniqueConstraint(
            "user_id", "conversation_id", "id", name="uq_turns_user_id_conversation_id_id"
        ),
        sa.UniqueConstraint("user_id", "idempotency_key", name="uq_turns_user_id_idempotency_key"),
    )
    op.create_index(
        "uq_turns_running",
        "turns",
        ["user_id", "conversation_id"],
        unique=True,
        postgresql_where=sa.text("status = 'running'"),
        sqlite_where=sa.text("status = 'running'"),
    )

    op.create_table(
        "messages",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("model", sa.Text()),
        sa.Column("usage", sa.JSON(none_as_null=True)),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("role IN ('user', 'assistant')", name="ck_messages_role"),
        sa.CheckConstraint(
            "status IN ('complete', 'cancelled', 'failed')", name="ck_messages_status"
        ),
        sa.CheckConstraint("position > 0", name="ck_messages_position"),
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id", "turn_id"],
            ["turns.user_id", "turns.conversation_id", "turns.id"],
            name="fk_messages_user_id_conversation_id_turn_id_turns",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_messages"),
    )
    op.create_index(
        "ix_messages_user_id_conversation_id_turn_id",
        "messages",
        ["user_id", "conversation_id", "turn_id"],
    )
    op.create_index(
        "uq_messages_position",
        "messages",
        ["user_id", "conversation_id", "position"],
        unique=True,
        postgresql_where=sa.text("NOT superseded"),
        sqlite_where=sa.text("NOT superseded"),
    )
    if postgresql:
        for table, owner in OWNER_COLUMNS.items():
            keep_apart(table, owner)
        # Before it is known who asks, the one account whose address was named.
        op.execute(
            "CREATE POLICY users_lookup ON users FOR SELECT "
            "USING (email = nullif(current_setting('app.lookup', true), ''))"
        )


def keep_apart(table: str, owner: str) -> None:
    # FORCE: the table's owner too sees what the transaction's user may see. NULLIF: what a
    # transaction set is '' after it, and '' is nobody.
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY {table}_owner ON {table} "
        f"USING ({owner} = nullif(current_setting('app.user_id', true), '')) "
        f"WITH CHECK ({owner} = nullif(current_setting('app.user_id', true), ''))"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET LOCAL lock_timeout = '4s'")
        op.execute("SET LOCAL statement_timeout = '30s'")
    for table in ("messages", "turns", "workers", "users", "conversations"):
        op.drop_table(table)
