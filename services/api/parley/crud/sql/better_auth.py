"""Better Auth's table of sessions: another system's, and only ever read."""

import structlog
from sqlalchemy import Text, cast, column, extract, func, quoted_name, select, table
from sqlalchemy.exc import DBAPIError

from parley.core.errors import DatabaseUnavailable
from parley.core.resilience import sqlstate
from parley.crud.sql.database import SqlDatabase

log = structlog.get_logger(__name__)


class SqlBetterAuthSessions:
    """`table_name` is `name` or `schema.name`, as Better Auth was told."""

    def __init__(self, database: SqlDatabase, table_name: str) -> None:
        self._database = database
        schema, _, name = table_name.rpartition(".")
        self._table = table(
            quoted_name(name, quote=True),
            *map(column, ("token", "expiresAt", "userId")),
            schema=quoted_name(schema, quote=True) if schema else None,
        )

    async def user_of(self, token: str) -> str | None:
        session_of = self._table.c
        # Seconds since 1970 on both sides: a column without a time zone is in UTC, and this
        # server's own zone may be another.
        lasts = extract("epoch", session_of.expiresAt) > extract("epoch", func.now())
        user_id = select(cast(session_of.userId, Text)).where(session_of.token == token, lasts)
        try:
            async with self._database.session(read_only=True) as session:
                await self._database.identify(session, "app.lookup", token)
                return await session.scalar(user_id)
        except DBAPIError as error:
            # There is no such table, or none that may be read: whoever set it up must know.
            log.error("sessions-unreadable", sqlstate=sqlstate(error))
            msg = "Better Auth's sessions cannot be read here."
            raise DatabaseUnavailable(msg) from error

    async def close(self) -> None:
        await self._database.close()
