"""What keeps the relay going, and what it lets go of: whatever its log and its store do."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from parley.core.errors import DatabaseUnavailable, InternalError, Unavailable
from parley.crud.memory.streams import MemoryStreamLog
from parley.crud.ports import Place, Store, Stretch, Transaction
from parley.schemas.problem import Problem
from parley.schemas.turns import ChatReply, Delta
from parley.services.turns import relay as relay_module
from parley.services.turns.relay import Relay
from tests.responders import Gated
from tests.turn_process import Process, events_of

# Less than a lease: without one a turn is read in another way.
PATIENCE_SECONDS = 5


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(relay_module, "DOUBT_SECONDS", 0.01)
    monkeypatch.setattr(relay_module, "LATE_SECONDS", 0.05)


class FaultyLog(MemoryStreamLog):
    """Raises `fault`, while it has one."""

    def __init__(self) -> None:
        super().__init__(retention_seconds=600)
        self.fault: Exception | None = None
        self.asked = 0

    async def append(self, stretches: Sequence[Stretch]) -> Sequence[int]:
        self._fail()
        return await super().append(stretches)

    async def read(self, places: Sequence[Place]) -> Sequence[Stretch]:
        self._fail()
        return await super().read(places)

    def _fail(self) -> None:
        self.asked += 1
        if self.fault is not None:
            raise self.fault


class FaultyStore:
    """Raises `fault`, while it has one, and counts how often."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.fault: Exception | None = None
        self.failed = 0

    def begin(
        self, user_id: str, *, read_only: bool = False
    ) -> AbstractAsyncContextManager[Transaction]:
        if self.fault is not None:
            self.failed += 1
            raise self.fault
        return self._store.begin(user_id, read_only=read_only)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def backend() -> str:
    """What is tested here is above the store."""
    return "memory"


@pytest.fixture
def log() -> FaultyLog:
    return FaultyLog()


@pytest.fixture
def model() -> Gated:
    return Gated("first ")


async def eventually(holds) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.001)


def is_resting(relay: Relay) -> bool:
    return not relay._is_needed.is_set()  # noqa: SLF001 - nobody else is told


class TestTimer:
    async def test_a_bug_does_not_stop_it(
        self, store: Store, log: FaultyLog, model: Gated, alice: str
    ):
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            started = await here.begin(alice)
            reading = await there.turns.read(alice, started.turn_id)
            log.fault = KeyError()
            await eventually(lambda before=log.asked: log.asked > before + 5)
            log.fault = None
            events = reading.events.read(1)
            assert [(2, Delta(text="first "))] == await anext(events)
            reading.leave()
            model.gate.set()
            await here.idle()

    async def test_it_rests_when_there_is_nothing_to_move(
        self, store: Store, log: FaultyLog, model: Gated, alice: str
    ):
        model.gate.set()
        process = Process(store, model, log=log)
        async with process.relaying():
            reply = await process.say(alice, "hello")
            await process.idle()
            await eventually(lambda: is_resting(process.relay))
            reading = await process.turns.read(alice, reply.turn_id)
            assert not is_resting(process.relay)
            reading.leave()
            await eventually(lambda: is_resting(process.relay))

    async def test_what_the_log_never_takes_is_let_go(
        self, store: Store, log: FaultyLog, model: Gated, alice: str
    ):
        model.gate.set()
        log.fault = Unavailable()
        process = Process(store, model, log=log)
        async with process.relaying():
            await process.say(alice, "hello")
            await eventually(lambda: is_resting(process.relay))

    async def test_more_turns_than_are_read_at_once_are_all_heard(
        self, store: Store, log: FaultyLog, model: Gated, alice: str, monkeypatch
    ):
        monkeypatch.setattr(relay_module, "MIRRORS_AT_ONCE", 2)
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            started = [await here.begin(alice) for _ in range(5)]
            readings = [await there.turns.read(alice, turn.turn_id) for turn in started]
            async with asyncio.timeout(PATIENCE_SECONDS):
                for reading in readings:
                    assert [(2, Delta(text="first "))] == await anext(reading.events.read(1))
            for reading in readings:
                reading.leave()
            model.gate.set()
            await here.idle()


class TestMirror:
    async def test_who_leaves_a_running_turn_leaves_no_watch_over_it(
        self, store: Store, log: FaultyLog, model: Gated, alice: str
    ):
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            started = await here.begin(alice)
            await model.asked.wait()
            before = asyncio.all_tasks()
            reading = await there.turns.read(alice, started.turn_id)
            await anext(reading.events.read(1))
            assert before != asyncio.all_tasks()
            reading.leave()
            await eventually(lambda: before == asyncio.all_tasks())
            model.gate.set()
            await here.idle()

    async def test_a_store_that_is_away_is_asked_until_it_answers(
        self, store: Store, log: FaultyLog, model: Gated, alice: str
    ):
        faulty = FaultyStore(store)
        here, there = Process(store, model, log=log), Process(faulty, model, log=log)
        async with here.relaying(), there.relaying():
            started = await here.begin(alice)
            reading = await there.turns.read(alice, started.turn_id)
            faulty.fault = DatabaseUnavailable()
            model.gate.set()
            await here.idle()
            await eventually(lambda: faulty.failed > 3)
            faulty.fault = None
            assert isinstance((await events_of(reading.events))[-1].event, ChatReply)
            reading.leave()

    async def test_a_bug_ends_its_streams(
        self, store: Store, log: FaultyLog, model: Gated, alice: str
    ):
        faulty = FaultyStore(store)
        here, there = Process(store, model, log=log), Process(faulty, model, log=log)
        async with here.relaying(), there.relaying():
            started = await here.begin(alice)
            reading = await there.turns.read(alice, started.turn_id)
            faulty.fault = KeyError()
            (*_, (_, end)) = await asyncio.wait_for(events_of(reading.events), PATIENCE_SECONDS)
            reading.leave()
            model.gate.set()
            await here.idle()

        assert isinstance(end, Problem)
        assert (InternalError.code, started.turn_id) == (end.code, end.turn_id)
