"""SQLite and PostgreSQL. Rows are born and die in this package."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import cast
from uuid import UUID

import structlog
from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from parley.core.errors import DatabaseUnavailable
from parley.crud.ports import DEAD_SECONDS, LEASE_SECONDS, LOST_SECONDS
from parley.crud.sql.accounts import SqlAccounts
from parley.crud.sql.conversations import SqlConversations
from parley.crud.sql.database import SqlDatabase
from parley.crud.sql.dialect import insert_into
from parley.crud.sql.files import SqlFiles
from parley.crud.sql.indexes import index_faults_of
from parley.crud.sql.keys import SqlKeys
from parley.crud.sql.lookup import owner_of
from parley.crud.sql.messages import SqlMessages
from parley.crud.sql.powers import faults_of
from parley.crud.sql.sessions import SqlSessions
from parley.crud.sql.turns import SqlTurns
from parley.models import WorkerRow, utc_now
from parley.schemas.accounts import Credential
from parley.schemas.health import Pool

log = structlog.get_logger(__name__)


class SqlTransaction:
    def __init__(self, session: AsyncSession, user_id: str) -> None:
        self.conversations = SqlConversations(session, user_id)
        self.turns = SqlTurns(session, user_id)
        self.messages = SqlMessages(session, user_id)
        self.accounts = SqlAccounts(session, user_id)
        self.sessions = SqlSessions(session, user_id)
        self.keys = SqlKeys(session, user_id)
        self.files = SqlFiles(session, user_id)


class SqlStore:
    """
    Where it `refuses_faults`, no user's transaction begins before the database has been seen to
    have none: it may have been away when the process started.
    """

    def __init__(
        self, engine: AsyncEngine, *, timeout_seconds: float, refuses_faults: bool = False
    ) -> None:
        self._database = SqlDatabase(engine, timeout_seconds=timeout_seconds)
        self._session = self._database.session
        self._identify = self._database.identify
        self._has_rls = engine.dialect.name == "postgresql"
        self._refuses_faults = refuses_faults
        self._is_admitted = not refuses_faults
        self._reported: Sequence[str] = ()

    @asynccontextmanager
    async def begin(
        self, user_id: str, *, read_only: bool = False
    ) -> AsyncGenerator[SqlTransaction]:
        await self._admit()
        async with self._session(read_only=read_only, user_id=user_id) as session:
            await self._identify(session, "app.user_id", user_id)
            yield SqlTransaction(session, user_id)

    async def resolve(self, credential: Credential) -> str | None:
        await self._admit()
        async with self._session(read_only=True) as session:
            await self._identify(session, "app.lookup", credential[0])
            return cast("str | None", await session.scalar(owner_of(credential)))

    async def ping(self) -> None:
        async with self._session(read_only=True, is_vital=True) as session:
            await session.execute(text("SELECT 1"))

    async def revision(self) -> str | None:
        async with self._session(read_only=True, is_vital=True) as session:
            return await _revision(session)

    def pool(self) -> Pool | None:
        return self._database.pool()

    async def clock(self) -> datetime:
        async with self._session(read_only=True, is_vital=True) as session:
            return cast("datetime", await session.scalar(select(utc_now())))

    async def faults(self) -> Sequence[str]:
        if not self._has_rls:
            return ()
        async with self._session(read_only=True, is_vital=True) as session:
            faults = await faults_of(session, is_migrated=await _revision(session) is not None)
        if self._refuses_faults:
            self._is_admitted = not faults
            if faults and faults != self._reported:
                # Once, and not for each request that is refused.
                self._reported = faults
                for fault in faults:
                    log.error("database-refused", fault=fault)
        return faults

    async def index_faults(self) -> Sequence[str]:
        if not self._has_rls:
            return ()
        async with self._session(read_only=True, is_vital=True) as session:
            return await index_faults_of(session)

    async def renew(self, worker_id: UUID) -> None:
        async with self._session(is_vital=True) as session:
            insert = insert_into(session, WorkerRow).values(
                id=worker_id, lease_until=utc_now(LEASE_SECONDS)
            )
            await session.execute(
                insert.on_conflict_do_update(
                    index_elements=["id"], set_={"lease_until": insert.excluded.lease_until}
                )
            )

    async def cancels(self, worker_id: UUID) -> int:
        async with self._session(read_only=True, is_vital=True) as session:
            query = select(WorkerRow.cancels).where(WorkerRow.id == worker_id)
            return await session.scalar(query) or 0

    async def forget(self, worker_id: UUID) -> None:
        async with self._session(is_vital=True) as session:
            await session.execute(delete(WorkerRow).where(WorkerRow.id == worker_id))

    async def lost(self) -> int:
        async with self._session(read_only=True, is_vital=True) as session:
            query = (
                select(func.count())
                .select_from(WorkerRow)
                .where(
                    WorkerRow.lease_until > utc_now(-LOST_SECONDS),
                    WorkerRow.lease_until < utc_now(),
                )
            )
            return await session.scalar(query) or 0

    async def forget_dead(self) -> None:
        async with self._session(is_vital=True) as session:
            await session.execute(
                delete(WorkerRow).where(WorkerRow.lease_until < utc_now(-DEAD_SECONDS))
            )

    async def close(self) -> None:
        await self._database.close()

    async def _admit(self) -> None:
        if not self._is_admitted and await self.faults():
            raise DatabaseUnavailable


async def _revision(session: AsyncSession) -> str | None:
    connection = await session.connection()
    if not await connection.run_sync(lambda sync: sync.dialect.has_table(sync, "alembic_version")):
        return None
    version = await session.scalar(text("SELECT version_num FROM alembic_version"))
    return cast("str | None", version)
