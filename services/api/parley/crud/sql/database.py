"""One database: its connections, its transactions, and what becomes of its failures."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from math import inf
from typing import cast

from prometheus_client import Counter
from sqlalchemy import QueuePool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from parley.core import metrics
from parley.core.database import (
    POOL_WAIT_SECONDS,
    SERVER_SHARE_OF_TIME,
    connections_of,
    for_reading,
)
from parley.core.errors import AppError, DatabaseUnavailable, Overloaded
from parley.core.places import Places
from parley.core.resilience import Breaker, Fault, as_app_error, classify
from parley.schemas.health import Pool

# What is left of a request's time for saying that the database did not answer.
_SHARE_OF_TIME = 0.9
# How much of that may be spent on waiting for room.
_SHARE_OF_WAITING = 0.75
_NO_ROOM = "The database has no room for this now. Try again shortly."
_SET_CONFIG = text("SELECT set_config(:name, :value, true)")


class SqlDatabase:
    def __init__(
        self, engine: AsyncEngine, *, timeout_seconds: float, name: str = "parley"
    ) -> None:
        """`name` tells its metrics from those of another."""
        self._engine = engine
        self._has_rls = engine.dialect.name == "postgresql"
        self._timeout_seconds = timeout_seconds * _SHARE_OF_TIME
        # Who has waited longer ends before PostgreSQL could have said that it is slow: then it is there
        # if it has answered somebody meanwhile.
        self._telling_seconds = self._timeout_seconds - timeout_seconds * SERVER_SHARE_OF_TIME
        self._writing = async_sessionmaker(engine, autoflush=False, expire_on_commit=False)
        self._reading = async_sessionmaker(
            for_reading(engine), autoflush=False, expire_on_commit=False
        )
        self._answered_at = -inf
        self._breaker = Breaker(
            self._select_one,
            probe_seconds=self._timeout_seconds,
            tell_away=metrics.DATABASE_AWAY.labels(name).set,
        )
        # From nothing on, or no rate would show the first.
        self._refusals: dict[type[Exception], Counter] = {
            error: metrics.DATABASE_REFUSALS.labels(name, error.code)
            for error in (DatabaseUnavailable, Overloaded)
        }
        self._in_use = metrics.DATABASE_IN_USE.labels(name)
        self._waiting = metrics.DATABASE_WAITING.labels(name)
        self._connections_max = metrics.DATABASE_CONNECTIONS_MAX.labels(name)
        self._connections_max.set(connections_of(engine))
        patience = _SHARE_OF_WAITING * self._timeout_seconds
        if self._has_rls:
            self._places = Places(connections_of(engine))
            self._patience_seconds = min(POOL_WAIT_SECONDS, patience)
        else:
            # SQLite lets its writers in one by one, and not in their order: some would wait for ever.
            self._places = Places(1)
            self._patience_seconds = patience

    def pool(self) -> Pool:
        pool = cast("QueuePool", self._engine.pool)
        return Pool(size=pool.size(), in_use=pool.checkedout(), overflow=max(0, pool.overflow()))

    async def close(self) -> None:
        await self._breaker.close()
        await self._engine.dispose()
        self._connections_max.set(0)

    @asynccontextmanager
    async def session(
        self, *, read_only: bool = False, user_id: str | None = None, is_vital: bool = False
    ) -> AsyncGenerator[AsyncSession]:
        """
        One transaction, in a request's time: it commits on a clean exit.

        What `is_vital` for the process gets PostgreSQL's next connection, however many users wait.

        Raises:
            DatabaseUnavailable: no connection, or no answer in time.
            Overloaded: the database is there, and has no room for this now.
        """
        sessions = self._reading if read_only else self._writing
        waits = not is_vital if self._has_rls else not read_only
        room = self._room(user_id) if waits else nullcontext()
        try:
            with self._breaker.guard():
                async with self._in_time(room), sessions.begin() as session:
                    with self._in_use.track_inprogress():
                        yield session
        except Exception as exception:
            error = as_app_error(exception)
            if refusals := self._refusals.get(type(error or exception)):
                refusals.inc()
            if error:
                raise error from exception
            raise

    @asynccontextmanager
    async def _in_time(self, room: AbstractAsyncContextManager[None]) -> AsyncGenerator[None]:
        clock = asyncio.get_running_loop().time
        began_at = clock()
        waited: float | None = None
        try:
            async with asyncio.timeout(self._timeout_seconds) as deadline, room:
                waited = clock() - began_at
                yield
        except TimeoutError as late:
            has_waited = waited is not None and waited > self._telling_seconds
            if has_waited and self._answered_at > began_at and deadline.expired():
                raise Overloaded(_NO_ROOM) from late
            raise
        except (DBAPIError, AppError) as refusal:
            # What was refused before there was room for it, the server has not heard of.
            if waited is not None and classify(refusal) is not Fault.CONNECTION:
                self._answered_at = clock()
            raise
        self._answered_at = clock()

    @asynccontextmanager
    async def _room(self, user_id: str | None) -> AsyncGenerator[None]:
        async with AsyncExitStack() as inside:
            try:
                with self._waiting.track_inprogress():
                    async with asyncio.timeout(self._patience_seconds):
                        await inside.enter_async_context(self._places.taken(user_id))
            except TimeoutError as too_many:
                raise Overloaded(_NO_ROOM) from too_many
            yield

    async def identify(self, session: AsyncSession, name: str, value: str) -> None:
        """Sets what the policies compare with, where there are any."""
        if self._has_rls:
            # Local to this transaction, so that a pooled connection never keeps an identity.
            await session.execute(_SET_CONFIG, {"name": name, "value": value})

    async def _select_one(self) -> None:
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
