"""What SQLAlchemy says differently for the two databases."""

from sqlalchemy import text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from parley.models import Base

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


def insert_into(
    session: AsyncSession, row: type[Base]
) -> postgresql.dml.Insert | sqlite.dml.Insert:
    """An INSERT that can say ON CONFLICT."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(row)
    return sqlite.insert(row)


async def hold_name(session: AsyncSession, name: str) -> None:
    """
    Nobody else holds this name before this transaction ends.

    SQLite has no such lock, and no need of one: there is one who writes.
    """
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(_LOCK, {"name": name})
