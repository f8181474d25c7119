"""What keeps the relay going, and what it lets go of: whatever its log and its store do."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from parley.core.errors import DatabaseUnavailable, Full, InternalError, Unavailable
from parley.crud.memory.streams import MemoryStreamLog
from parley.crud.ports import Place, Store, Stretch, Transaction
from parley.schemas.problem import Problem
from parley.schemas.turns import ChatReply, Delta
from parley.services.turns import relay as relay_module
from parley.services.turns.relay import Mirror, Relay
from tests.responders import Gated, Scripted
from tests.turn_process import Process, events_of, turn_of

# Less than a lease: without one a turn is read in another way.
PATIENCE_SECONDS = 60


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(relay_module, "DOUBT_SECONDS", 0.01)
    monkeypatch.setattr(relay_module, "LATE_SECONDS", 0.05)


class FaultyLog(MemoryStreamLog):
    """Raises `fault`, while it has one, or to who writes `refusal`; knows what it was to write."""

    def __init__(self) -> None:
        super().__init__(retention_seconds=600)
        self.fault: Exception | None = None
        self.refusal: Exception | None = None
        self.asked = 0
        self.written: list[list[int]] = []

    async def append(self, stretches: Sequence[Stretch]) -> Sequence[int]:
        self._fail(self.refusal or self.fault)
        self.written += [[*map(len, stretch.pieces)] for stretch in stretches]
        return await super().append(stretches)

    async def read(self, places: Sequence[Place]) -> Sequence[Stretch]:
        self._fail(self.fault)
        return await super().read(places)

    def _fail(self, fault: Exception | None) -> None:
        self.asked += 1
        if fault is not None:
            raise fault


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


class SlowStore:
    """Answers as often as it is let, once it is `slow`, and knows how many it is asked at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_slow = False
        self.may_answer = asyncio.Semaphore(0)
        self.begun = self.most = self.most_of_one = 0
        self.inside = Counter[str]()

    @asynccontextmanager
    async def begin(self, user_id: str, *, read_only: bool = False) -> AsyncGenerator[Transaction]:
        if self.is_slow:
            self.begun += 1
            self.inside[user_id] += 1
            self.most = max(self.most, self.inside.total())
            self.most_of_one = max(self.most_of_one, self.inside[user_id])
            await self.may_answer.acquire()
            self.inside[user_id] -= 1
        async with self._store.begin(user_id, read_only=read_only) as tx:
            yield tx

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


class TestWriting:
    async def test_who_reads_another_process_hears_on_while_its_own_turns_are_refused(
        self, store: Store, log: FaultyLog, model: Gated, alice: str
    ):
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            started = await here.begin(alice)
            await eventually(lambda: log.written)
            log.refusal = Full()
            await there.begin(alice)
            reading = await there.turns.read(alice, started.turn_id)
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert [(2, Delta(text="first "))] == await anext(reading.events.read(1))
            reading.leave()
            model.gate.set()
            await asyncio.gather(here.idle(), there.idle())

    async def test_one_that_is_far_behind_at_its_end_comes_through_whole(
        self, store: Store, log: FaultyLog, alice: str, monkeypatch
    ):
        monkeypatch.setattr(relay_module, "PIECES_AT_ONCE", 1)
        monkeypatch.setattr(relay_module, "TICK_SECONDS", 0.005)
        model = Scripted(*[f"{number} " for number in range(60)])
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            begun = await here.ask(alice)
            whole = await events_of(begun.events)
            await here.idle()
            await eventually(lambda: is_resting(here.relay))
            reading = await there.turns.read(alice, whole[0].event.turn_id)
            assert whole == await events_of(reading.events)
            reading.leave()

    async def test_what_is_written_at_once_is_bounded_by_characters_but_for_one_piece(
        self, store: Store, log: FaultyLog, alice: str, monkeypatch
    ):
        monkeypatch.setattr(relay_module, "CHARACTERS_AT_ONCE", 250)
        process = Process(store, Scripted(*["x" * 100] * 5, "y" * 300, "z"), log=log)
        async with process.relaying():
            await process.say(alice, "hello")
            await process.idle()
            await eventually(lambda: is_resting(process.relay))

        assert 801 == sum(map(sum, log.written))
        assert [300] == [sum(sizes) for sizes in log.written if sum(sizes) > 250]
        assert [300] in log.written

    async def test_who_stops_writes_all_that_was_said(
        self, store: Store, log: FaultyLog, alice: str, monkeypatch
    ):
        monkeypatch.setattr(relay_module, "PIECES_AT_ONCE", 1)
        monkeypatch.setattr(relay_module, "TICK_SECONDS", 60)
        monkeypatch.setattr(relay_module, "LATE_SECONDS", PATIENCE_SECONDS)
        process = Process(store, Scripted("one ", "two ", "three"), log=log)
        async with process.relaying():
            reply = await process.say(alice, "hello")
            await process.idle()
            assert [] == log.written

        (found,) = await log.read([Place(alice, reply.turn_id, 0)])
        assert (["one ", "two ", "three"], True) == ([*found.pieces], found.is_last)

    @pytest.mark.parametrize("fault", [Unavailable(), Full()])
    async def test_who_stops_does_not_try_again(
        self, store: Store, log: FaultyLog, alice: str, monkeypatch, fault: Exception
    ):
        monkeypatch.setattr(relay_module, "TICK_SECONDS", 60)
        log.fault = fault
        process = Process(store, Scripted("one"), log=log)
        async with process.relaying():
            await process.say(alice, "hello")
            await process.idle()

        assert 1 == log.asked


class TestMirror:
    async def test_what_was_asked_for_twice_is_heard_once(
        self, store: Store, log: FaultyLog, model: Gated, alice: str
    ):
        """By the timer, and by who hears a turn out that has ended."""
        process = Process(store, model, log=log)
        started = await process.begin(alice)
        mirror = Mirror(alice, await turn_of(store, alice, started.turn_id))
        for _ in range(2):
            mirror.hear(Stretch(alice, started.turn_id, 0, ["one ", "two"], is_last=False))
        mirror.hear(Stretch(alice, started.turn_id, 2, [], is_last=True))

        assert ["one ", "two"] == mirror.pieces
        model.gate.set()
        await process.idle()

    async def test_a_store_that_does_not_settle_is_asked_less_and_less(
        self, store: Store, log: FaultyLog, model: Gated, alice: str
    ):
        """As while the database only reads: a hundred followers must not ask it without a pause."""
        process = Process(store, model, log=log)
        started = await process.begin(alice)
        mirror = Mirror(alice, await turn_of(store, alice, started.turn_id))
        mirror.hear(Stretch(alice, started.turn_id, 0, [], is_last=True))
        await asyncio.wait_for(mirror.until_in_doubt(60), PATIENCE_SECONDS)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                for _ in range(50):
                    await mirror.until_in_doubt(60)

        model.gate.set()
        await process.idle()

    async def test_four_ask_the_store_at_once_however_many_follow_and_two_of_one_user(
        self, store: Store, log: FaultyLog, model: Gated, alice: str, bob: str
    ):
        slow = SlowStore(store)
        here, there = Process(store, model, log=log), Process(slow, model, log=log)
        async with here.relaying(), there.relaying():
            users = [alice] * 9 + [bob] * 9
            started = [(user, await here.begin(user)) for user in users]
            readings = [await there.turns.read(user, turn.turn_id) for user, turn in started]
            slow.is_slow = True
            for answered in range(20):
                await eventually(lambda answered=answered: slow.begun >= answered + 4)
                slow.may_answer.release()
            slow.is_slow = False
            for _ in range(4):
                slow.may_answer.release()
            model.gate.set()
            await here.idle()
            for reading in readings:
                assert isinstance((await events_of(reading.events))[-1].event, ChatReply)
                reading.leave()

        assert (4, 2) == (slow.most, slow.most_of_one)

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
            assert asyncio.all_tasks() - before
            reading.leave()
            await eventually(lambda: not asyncio.all_tasks() - before)
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
