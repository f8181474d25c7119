"""One database: its connections, its transactions, and what becomes of its failures."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from typing import cast

from sqlalchemy import QueuePool, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from parley.core.database import for_reading
from parley.core.errors import Overloaded
from parley.core.resilience import Breaker, as_app_error
from parley.schemas.health import Pool

# What is left of a request's time for saying that the database did not answer.
_SHARE_OF_TIME = 0.9
_SET_CONFIG = text("SELECT set_config(:name, :value, true)")


class SqlDatabase:
    def __init__(self, engine: AsyncEngine, *, timeout_seconds: float) -> None:
        self._engine = engine
        self._has_rls = engine.dialect.name == "postgresql"
        self._timeout_seconds = timeout_seconds * _SHARE_OF_TIME
        self._writing = async_sessionmaker(engine, autoflush=False, expire_on_commit=False)
        self._reading = async_sessionmaker(
            for_reading(engine), autoflush=False, expire_on_commit=False
        )
        self._breaker = Breaker(self._select_one)
        self._turnstile = asyncio.Lock()

    def pool(self) -> Pool:
        pool = cast("QueuePool", self._engine.pool)
        return Pool(size=pool.size(), in_use=pool.checkedout(), overflow=max(0, pool.overflow()))

    async def close(self) -> None:
        await self._breaker.close()
        await self._engine.dispose()

    @asynccontextmanager
    async def session(self, *, read_only: bool = False) -> AsyncGenerator[AsyncSession]:
        """
        One transaction, in a request's time: it commits on a clean exit.

        Raises:
            DatabaseUnavailable: no connection, or no answer in time.
            Overloaded: the database is there, and has no room for this now.
        """
        sessions = self._reading if read_only else self._writing
        queue = nullcontext() if read_only or self._has_rls else self._in_turn()
        try:
            with self._breaker.guard():
                async with (
                    queue,
                    asyncio.timeout(self._timeout_seconds),
                    sessions.begin() as session,
                ):
                    yield session
        except Exception as exception:
            if error := as_app_error(exception):
                raise error from exception
            raise

    @asynccontextmanager
    async def _in_turn(self) -> AsyncGenerator[None]:
        # SQLite lets its writers in one by one, and not in their order: some would wait for ever.
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._turnstile.acquire()
        except TimeoutError as too_many:
            msg = "Too much is being written at once. Try again shortly."
            raise Overloaded(msg) from too_many
        try:
            yield
        finally:
            self._turnstile.release()

    async def identify(self, session: AsyncSession, name: str, value: str) -> None:
        """Sets what the policies compare with, where there are any."""
        if self._has_rls:
            # Local to this transaction, so that a pooled connection never keeps an identity.
            await session.execute(_SET_CONFIG, {"name": name, "value": value})

    async def _select_one(self) -> None:
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
