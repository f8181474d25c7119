"""Indexes that PostgreSQL keeps and does not use: what a CREATE or REINDEX CONCURRENTLY left."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# What was to take another's place, or has lost it, is in nobody's way but its own:
# https://www.postgresql.org/docs/current/sql-reindex.html
_INVALID = text(
    """
    SELECT relname, quote_ident(relname), relname ~ '_cc(new|old)[0-9]*$'
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE NOT indisvalid AND relnamespace = ANY (current_schemas(false)::regnamespace[])
    ORDER BY relname
    """
)


async def index_faults_of(session: AsyncSession) -> list[str]:
    """One line an index, for an operator: what is wrong and what to do."""
    return [
        f"the index {name} is not valid: what built it was interrupted, and no query uses it. If"
        f" nothing builds it now, as the owner: {'DROP' if is_spare else 'REINDEX'} INDEX"
        f" CONCURRENTLY {quoted}"
        for name, quoted, is_spare in await session.execute(_INVALID)
    ]
