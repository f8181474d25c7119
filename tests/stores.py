"""Stores that wait for a busy machine, or have something around their transactions; and what is kept."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from parley.core.database import create_engine
from parley.core.errors import DatabaseUnavailable
from parley.crud.ports import Blobs, Store, Transaction
from parley.crud.sql.store import SqlStore

TIMEOUT_SECONDS = 30

Hook = Callable[[str, bool], Awaitable[None]]


def patient_store(url: str, **options: Any) -> SqlStore:
    """`options` are the engine's. A busy machine is no slow server; those have tests of their own."""
    engine = create_engine(url, timeout_seconds=TIMEOUT_SECONDS, **options)
    return SqlStore(engine, timeout_seconds=TIMEOUT_SECONDS)


async def until_back(store: Store, seconds: float) -> None:
    """Fails where its database is not by then."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await store.ping()
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)


async def kept(blobs: Blobs) -> set[UUID]:
    """Whose bytes are there."""
    return {found.id async for page in blobs.pages() for found in page}


async def nothing(user_id: str, read_only: bool) -> None:  # noqa: FBT001 - as `begin` has it
    pass


class Around:
    """Before and behind each transaction its hooks are told whose it is, and whether it only reads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.before: Hook = nothing
        self.behind: Hook = nothing

    @asynccontextmanager
    async def begin(self, user_id: str, *, read_only: bool = False) -> AsyncGenerator[Transaction]:
        await self.before(user_id, read_only)
        async with self._store.begin(user_id, read_only=read_only) as tx:
            yield tx
        await self.behind(user_id, read_only)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
