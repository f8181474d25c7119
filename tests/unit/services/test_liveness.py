import asyncio

import pytest

from parley.core.ids import new_id
from parley.crud.memory.store import MemoryStore
from parley.services.liveness import LiveSessions
from tests.factories import make_account, session_of

ANN = "ann"


class CountingStore(MemoryStore):
    """Says how often it was asked; a test may hold its answer back."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def begin(self, user_id: str, *, read_only: bool = False):
        self.asked += read_only
        return super().begin(user_id, read_only=read_only)


@pytest.fixture
async def store() -> CountingStore:
    store = CountingStore()
    await make_account(store, ANN)
    return store


class TestHas:
    async def test_a_yes_is_believed_for_a_while(self, store: CountingStore):
        live = LiveSessions(store)

        assert [True] * 3 == [await live.has(ANN, session_of(ANN)) for _ in range(3)]
        assert 1 == store.asked

    async def test_a_no_is_not(self, store: CountingStore):
        live, unknown = LiveSessions(store), new_id()

        assert [False] * 3 == [await live.has(ANN, unknown) for _ in range(3)]
        assert 3 == store.asked

    async def test_another_users_session_is_none(self, store: CountingStore):
        live = LiveSessions(store)
        await make_account(store, "bob")
        assert await live.has(ANN, session_of(ANN))

        assert not await live.has("bob", session_of(ANN))

    async def test_it_asks_again_after_ten_seconds(self, store: CountingStore):
        now = [0.0]
        live = LiveSessions(store, clock=lambda: now[0])
        for now[0], asked in ((0.0, 1), (9.9, 1), (10.1, 2)):
            assert await live.has(ANN, session_of(ANN))
            assert asked == store.asked


class TestForget:
    async def test_what_is_forgotten_is_asked_for_again(self, store: CountingStore):
        live = LiveSessions(store)
        await live.has(ANN, session_of(ANN))
        live.forget("bob")
        await live.has(ANN, session_of(ANN))
        assert 1 == store.asked

        live.forget(ANN)
        await live.has(ANN, session_of(ANN))
        assert 2 == store.asked

    async def test_an_answer_that_was_on_its_way_is_not_remembered(self, store: CountingStore):
        """The session ended between the question and the answer."""
        live = LiveSessions(store)
        asking = asyncio.create_task(live.has(ANN, session_of(ANN)))
        async with store.begin(ANN):
            while store.asked == 0:
                await asyncio.sleep(0)
            live.forget(ANN)
        assert await asking

        await live.has(ANN, session_of(ANN))
        assert 2 == store.asked
