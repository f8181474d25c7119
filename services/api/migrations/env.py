"""
Runs migrations over the async engine, one process at a time.

Where: the caller's `config.attributes["url"]`, else the settings' (DATABASE_MIGRATION_URL, then
DATABASE_URL). `models` lists every row in its `__all__`, so that no import here looks unused.
"""

import asyncio
import sys
from time import monotonic

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import MigrationScript
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.util import CommandError
from sqlalchemy import Connection, Dialect, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from parley.core.database import create_engine, engine_url
from parley.core.settings import load_settings
from parley.models import Base, UtcDateTime

# "parley" in ASCII: a number that no other program is likely to lock in this database.
LOCK = 0x7061726C6579
# For waiting on another process that migrates; each migration sets limits of its own.
TIMEOUT_SECONDS = 600
PAUSE_SECONDS = 0.2

# Whoever else may write to the version table could tell the API that the schema is another. In the
# transaction of each step too: whoever sees its revision sees the right ones.
KEEP_VERSION_TABLE = """
DO $$
DECLARE
  reader name;
BEGIN
  FOR reader IN
    SELECT DISTINCT grantee FROM information_schema.role_table_grants
    WHERE table_schema = current_schema() AND table_name = 'alembic_version'
      AND grantee NOT IN (current_user, 'PUBLIC')
  LOOP
    EXECUTE format('REVOKE ALL ON alembic_version FROM %I', reader);
    EXECUTE format('GRANT SELECT ON alembic_version TO %I', reader);
  END LOOP;
END $$
"""


def number_revision(
    migration: MigrationContext, _: object, directives: list[MigrationScript]
) -> None:
    """Four digits counting up, so that a greater revision is known to be a later one."""
    newest = max(migration.script.get_heads(), default="0") if migration.script else "0"
    for script in directives:
        script.rev_id = f"{int(newest) + 1:04}"


def render_type(kind: str, item: object, _: AutogenContext) -> str | bool:
    """A migration must not change when our code does: it names plain SQLAlchemy types only."""
    return (
        "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False
    )


def say_step(step: MigrationInfo, **_: object) -> None:
    verb = "Applied" if step.is_upgrade else "Undid"
    revision = step.up_revision
    context.config.print_stdout("%s %s: %s", verb, revision.revision, revision.doc)
    # Who watches a log is told now, and not when the last step is done.
    sys.stdout.flush()


def keep_version_table(ctx: MigrationContext, **_: object) -> None:
    if ctx.dialect.name == "postgresql":
        ctx.connection.execute(text(KEEP_VERSION_TABLE))


def configure(dialect: Dialect, **options: object) -> None:
    sqlite = dialect.name == "sqlite"
    context.configure(
        target_metadata=Base.metadata,
        transactional_ddl=True,
        # SQLite's one transaction is also its lock; PostgreSQL's is the session's.
        transaction_per_migration=not sqlite,
        render_as_batch=sqlite,
        render_item=render_type,
        process_revision_directives=number_revision,
        **options,
    )


def migrate(connection: Connection) -> None:
    sqlite = connection.dialect.name == "sqlite"
    # Applied is what stays: there all of them are one transaction.
    steps: list[MigrationInfo] = []
    note_step = lambda step, **_: steps.append(step)  # noqa: E731 - Alembic names its arguments
    configure(
        connection.dialect,
        connection=connection,
        on_version_apply=[note_step if sqlite else say_step, keep_version_table],
    )
    current, newest = context.get_context().get_current_revision(), context.get_head_revision()
    if current and current.isdecimal() and newest and current > newest:
        # As after a release is rolled back: its schema stays, and this code can work on it.
        message = "The schema is %s, later than this release's %s: nothing to do."
        context.config.print_stdout(message, current, newest)
        return
    with context.begin_transaction():
        context.run_migrations()
        if sqlite:
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if broken:
                msg = f"{len(broken)} rows refer to rows that are not there; nothing was changed."
                raise CommandError(msg)
    for step in steps:
        say_step(step)


async def be_the_only_one(connection: AsyncConnection) -> None:
    """
    Hold the advisory lock as long as the session lasts.

    The session that migrates has it: where this process is killed, the server goes on with the
    statement that it was at, and nobody else begins before that has ended. It is asked for anew each
    time, outside any transaction: who waits for it in the server has a snapshot, and the other's
    CREATE INDEX CONCURRENTLY would wait for that, for ever.
    """
    waits_until = monotonic() + TIMEOUT_SECONDS
    is_first = True
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
        await connection.commit()
        if is_first:
            context.config.print_stdout("Another process migrates this database: waiting for it.")
            sys.stdout.flush()
            is_first = False
        if monotonic() > waits_until:
            msg = f"another process has been migrating this database for {TIMEOUT_SECONDS} s"
            raise TimeoutError(msg)
        await asyncio.sleep(PAUSE_SECONDS)
    await connection.commit()


async def migrate_postgresql(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await be_the_only_one(connection)
        await connection.run_sync(migrate)
        await connection.execute(text(KEEP_VERSION_TABLE))
        await connection.commit()


async def migrate_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def leave_children_alone(connection: object, _: object) -> None:
        # With it on, a batch change's DROP TABLE would cascade and silently empty the children.
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys=OFF")
        cursor.close()

    async with engine.connect() as connection:
        await connection.run_sync(migrate)


async def run(url: str) -> None:
    engine = create_engine(url, timeout_seconds=TIMEOUT_SECONDS)
    try:
        if engine.dialect.name == "postgresql":
            await migrate_postgresql(engine)
        else:
            await migrate_sqlite(engine)
    finally:
        await engine.dispose()


def target_url() -> str:
    if url := context.config.attributes.get("url"):
        return url
    return load_settings().migration_url


if context.is_offline_mode():
    dialect = engine_url(target_url()).get_dialect()()
    configure(dialect, dialect_name=dialect.name, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(run(target_url()))
