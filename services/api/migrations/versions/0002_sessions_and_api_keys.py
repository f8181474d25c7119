"""
Sessions of local accounts, as families of refresh tokens, and API keys.

Locks: none that matter (new tables only).
Undo: drops both tables, so everybody is signed out and every API key is lost.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = ("refresh_tokens", "api_keys")


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:
        op.execute("SET LOCAL lock_timeout = '4s'")
        op.execute("SET LOCAL statement_timeout = '30s'")
    op.create_table(
        "refresh_tokens",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("family", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("user_id", "family", "hash", name="pk_refresh_tokens"),
        sa.UniqueConstraint("hash", name="uq_refresh_tokens_hash"),
    )
    op.create_table(
        "api_keys",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_api_keys"),
        sa.UniqueConstraint("hash", name="uq_api_keys_hash"),
    )
    if postgresql:
        for table in TABLES:
            keep_apart(table)


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
    # Before it is known who asks, the one row whose hash was named.
    op.execute(
        f"CREATE POLICY {table}_lookup ON {table} FOR SELECT "
        "USING (hash = nullif(current_setting('app.lookup', true), ''))"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET LOCAL lock_timeout = '4s'")
        op.execute("SET LOCAL statement_timeout = '30s'")
    for table in TABLES:
        op.drop_table(table)
