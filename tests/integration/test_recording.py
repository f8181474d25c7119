"""Turns that end at once: no more of them are with the store than there are connections."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from parley.core.errors import ModelError, Overloaded
from parley.crud.ports import Store, Transaction
from parley.schemas.turns import TurnStatus
from parley.services.responders.base import Fault, PromptMessage
from tests.databases import DatabaseUrls
from tests.responders import Gated
from tests.stores import patient_store
from tests.turn_process import Process, turn_of

TURNS = 10


class NarrowStore:
    """Has one connection, and refuses who comes while it is taken."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_taken = False
        self.refused = 0

    @asynccontextmanager
    async def begin(self, user_id: str, *, read_only: bool = False) -> AsyncGenerator[Transaction]:
        if self._is_taken:
            self.refused += 1
            raise Overloaded
        self._is_taken = True
        try:
            await asyncio.sleep(0)
            async with self._store.begin(user_id, read_only=read_only) as tx:
                yield tx
        finally:
            self._is_taken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Speechless(Gated):
    async def stream(self, prompt: Sequence[PromptMessage], model: str) -> AsyncGenerator[str]:
        self.asked.set()
        await self.gate.wait()
        reason = "it was told to"
        raise Fault(reason, ModelError())
        yield


@pytest.mark.parametrize(
    ("model", "status"), [(Gated, TurnStatus.COMPLETE), (Speechless, TurnStatus.FAILED)]
)
async def test_they_wait_for_each_other_and_not_for_the_store(
    store: Store, alice: str, model: type[Gated], status: TurnStatus
):
    narrow, answering = NarrowStore(store), model()
    process = Process(narrow, answering, database_pool_size=1)
    started = [await process.begin(alice) for _ in range(TURNS)]
    answering.gate.set()
    await process.idle()

    assert 0 == narrow.refused
    for turn in started:
        assert status == (await turn_of(store, alice, turn.turn_id)).status


async def test_one_who_keeps_the_store_busy_holds_up_nobody_elses_reply(
    postgres: DatabaseUrls, alice: str, bob: str
):
    store = patient_store(postgres.api, pool_size=2)
    model = Gated("half ")
    process = Process(store, model, database_pool_size=2)
    hers = [await process.ask(alice) for _ in range(3)]
    his = await process.ask(bob)
    await model.asked.wait()
    async with store.begin(alice):
        model.gate.set()
        await his.events.outcome()
        assert [None] * 3 == [reading.events.end for reading in hers]

    for reading in hers:
        await reading.events.outcome()
    await process.idle()
    await store.close()
