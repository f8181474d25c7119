"""Whether a database has anything that somebody would miss."""

from sqlalchemy import inspect, literal, select, table, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from parley.crud.sql.database import SqlDatabase
from parley.crud.sql.ledger import LedgerClosed

NOBODYS = {"alembic_version", "workers"}
"""Tables whose rows are no user's."""
_SEES_ALL = text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")


async def table_with_rows(engine: AsyncEngine, *, timeout_seconds: float) -> str | None:
    """
    The first that has any; None for a database that is empty, migrated or not.

    Raises:
        LedgerClosed: the role does not see every user's rows: to it, all are empty.
        DatabaseUnavailable: no answer in time.
    """
    database = SqlDatabase(engine, timeout_seconds=timeout_seconds)
    try:
        async with database.session(read_only=True) as session:
            if not await session.scalar(_SEES_ALL):
                raise LedgerClosed
            for name in await _tables(session):
                if await session.scalar(select(literal(1)).select_from(table(name)).limit(1)):
                    return name
    finally:
        await database.close()
    return None


async def _tables(session: AsyncSession) -> list[str]:
    connection = await session.connection()
    names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    return sorted({*names} - NOBODYS)
