"""What SQLAlchemy says differently for the two databases."""

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from parley.models import Base


def insert_into(
    session: AsyncSession, row: type[Base]
) -> postgresql.dml.Insert | sqlite.dml.Insert:
    """An INSERT that can say ON CONFLICT."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(row)
    return sqlite.insert(row)
