"""Rows 41 and 42 of the list of attacks: whom a pooled connection was for, nobody after finds out."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from parley.core.database import Pooler, create_engine, for_reading
from parley.core.errors import ConversationNotFound, DatabaseUnavailable, Overloaded
from parley.core.ids import new_id
from parley.crud.sql.store import SqlStore
from parley.models import Base
from parley.schemas.accounts import EmailCredential
from tests.databases import DatabaseUrls, connected, until_one_waits
from tests.factories import make_conversation, new_turn, record
from tests.stores import TIMEOUT_SECONDS, patient_store

EMAIL = "alice@example.com"
OWNED = [table.name for table in Base.metadata.sorted_tables if "user_id" in table.columns] + [
    "users"
]
LEFT = f"""
SELECT nullif(current_setting('app.user_id', true), '') AS user_id,
  nullif(current_setting('app.lookup', true), '') AS lookup,
  {" + ".join(f"(SELECT count(*) FROM {table})" for table in OWNED)} AS rows
"""  # noqa: S608 - our own tables


@dataclass
class Scene:
    store: SqlStore
    urls: DatabaseUrls
    alice: str
    conversation_id: UUID

    async def delete(self) -> None:
        async with self.store.begin(self.alice) as tx:
            await tx.conversations.delete(self.conversation_id)

    @asynccontextmanager
    async def locked(self) -> AsyncGenerator[None]:
        """Somebody else has what Alice wants to delete."""
        async with connected(self.urls.owner) as owner, owner.transaction():
            await owner.execute("SELECT 1 FROM conversations FOR UPDATE")
            yield

    @asynccontextmanager
    async def waiting(self) -> AsyncGenerator[asyncio.Task[None]]:
        """One of Alice's transactions, which waits for somebody else's lock."""
        async with self.locked():
            task = asyncio.create_task(self.delete())
            await until_one_waits(self.urls)
            yield task


async def commit(scene: Scene) -> None:
    await make_conversation(scene.store, scene.alice)


async def read(scene: Scene) -> None:
    async with scene.store.begin(scene.alice, read_only=True) as tx:
        await tx.conversations.get(scene.conversation_id)


async def look_up(scene: Scene) -> None:
    assert scene.alice == await scene.store.resolve(EmailCredential(EMAIL))


async def roll_back(scene: Scene) -> None:
    with pytest.raises(ConversationNotFound):
        async with scene.store.begin(scene.alice) as tx:
            await tx.conversations.get(new_id())


async def crash(scene: Scene) -> None:
    with pytest.raises(ZeroDivisionError):
        async with scene.store.begin(scene.alice) as tx:
            await tx.conversations.get(scene.conversation_id)
            raise ZeroDivisionError


async def break_a_constraint(scene: Scene) -> None:
    with pytest.raises(ConversationNotFound):
        async with scene.store.begin(scene.alice) as tx:
            await tx.turns.accept(new_turn(new_id()))


async def cancel(scene: Scene) -> None:
    async with scene.waiting() as task:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def time_out(scene: Scene) -> None:
    async with scene.locked():
        with pytest.raises(Overloaded):
            await scene.delete()


async def lose_the_connection(scene: Scene) -> None:
    async with scene.waiting() as task, connected(scene.urls.admin) as admin:
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        with pytest.raises(DatabaseUnavailable):
            await task


ENDS = [
    commit, read, look_up, roll_back, crash, break_a_constraint, cancel, time_out,
    lose_the_connection,
]  # fmt: skip


class TestAConnection:
    @pytest.mark.parametrize("pooler", ["none", "transaction"])
    @pytest.mark.parametrize("end", ENDS)
    async def test_is_nobodys_when_its_transaction_has_ended(
        self,
        postgres: DatabaseUrls,
        alice: str,
        end: Callable[[Scene], Coroutine[Any, Any, None]],
        pooler: Pooler,
        monkeypatch: pytest.MonkeyPatch,
    ):
        """Whichever way it ended; the pool has one connection, so the next to ask gets the same."""
        patient = patient_store(postgres.api)
        async with patient.begin(alice) as tx:
            await tx.accounts.create(EMAIL, "hash")
            await tx.sessions.open(new_id(), "hash", 3600)
        conversation = await make_conversation(patient, alice)
        await record(patient, alice, conversation.id)
        await patient.close()
        if end is time_out:
            # The server says so after six seconds, and a request has 27.
            monkeypatch.setattr("parley.core.database.SERVER_SHARE_OF_TIME", 0.2)
        engine = create_engine(
            postgres.api, pool_size=1, pooler=pooler, timeout_seconds=TIMEOUT_SECONDS
        )
        store = SqlStore(engine, timeout_seconds=TIMEOUT_SECONDS)

        await end(Scene(store, postgres, alice, conversation.id))

        for way in (engine, for_reading(engine)):
            async with way.connect() as connection:
                assert (None, None, 0) == tuple((await connection.execute(text(LEFT))).one())
        await store.close()

    async def test_is_each_time_the_one_users_who_asks(self, postgres: DatabaseUrls):
        """Many at once over two connections, each with rows of their own."""
        store = patient_store(postgres.api, pool_size=2)
        users = [f"user-{number}" for number in range(20)]

        async def talk(user_id: str) -> None:
            made = {(await make_conversation(store, user_id, title=user_id)).id for _ in range(5)}
            async with store.begin(user_id, read_only=True) as tx:
                assert made == {each.id for each in await tx.conversations.newest(100, None)}

        async with asyncio.TaskGroup() as tasks:
            for user_id in users:
                tasks.create_task(talk(user_id))
        await store.close()


class TestACommit:
    @pytest.mark.parametrize("pooler", ["none", "transaction"])
    async def test_lasts_as_the_server_has_it(self, postgres: DatabaseUrls, pooler: Pooler):
        engine = create_engine(postgres.api, pooler=pooler, timeout_seconds=TIMEOUT_SECONDS)
        async with engine.begin() as connection:
            assert "on" == await connection.scalar(text("SHOW synchronous_commit"))
        await engine.dispose()

    async def test_lasts_on_sqlite(self, sqlite_url: str):
        engine = create_engine(sqlite_url, timeout_seconds=TIMEOUT_SECONDS)
        async with engine.begin() as connection:
            assert 2 == await connection.scalar(text("PRAGMA synchronous"))  # FULL
        await engine.dispose()
