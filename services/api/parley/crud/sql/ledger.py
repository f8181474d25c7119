from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from parley.crud.sql.database import SqlDatabase
from parley.models import FileRow


class LedgerClosed(Exception):
    """The role does not see every user's files: to it, all bytes would be nobody's."""


class SqlLedger:
    """Every method raises LedgerClosed for a role that policies apply to."""

    def __init__(self, engine: AsyncEngine, *, timeout_seconds: float) -> None:
        self._database = SqlDatabase(engine, timeout_seconds=timeout_seconds)
        self._has_rls = engine.dialect.name == "postgresql"

    async def known(self, file_ids: Sequence[UUID]) -> set[UUID]:
        async with self._database.session(read_only=True) as session:
            await self._require_sight(session)
            return {*await session.scalars(select(FileRow.id).where(FileRow.id.in_(file_ids)))}

    async def page(self, after: UUID | None, limit: int) -> Sequence[tuple[UUID, int]]:
        query = select(FileRow.id, FileRow.size).order_by(FileRow.id).limit(limit)
        if after is not None:
            query = query.where(FileRow.id > after)
        async with self._database.session(read_only=True) as session:
            await self._require_sight(session)
            return [(row.id, row.size) for row in await session.execute(query)]

    async def close(self) -> None:
        await self._database.close()

    async def _require_sight(self, session: AsyncSession) -> None:
        # In each transaction: what is taken away is taken away by what this one has seen.
        if self._has_rls and await session.scalar(text("SELECT row_security_active('files')")):
            raise LedgerClosed
