"""A turn that is watched from elsewhere: two processes on one store, and one stream log or none."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from parley.core.errors import (
    ConversationNotFound,
    Draining,
    EventsGone,
    ModelError,
    TurnNotFound,
    Unavailable,
)
from parley.core.ids import new_id
from parley.crud.memory.streams import MemoryStreamLog
from parley.crud.ports import Place, Store, StreamLog, Stretch
from parley.crud.redis.common import RedisCommon
from parley.schemas.problem import Problem
from parley.schemas.turns import ChatReply, Delta, TurnStarted
from parley.services.responders.base import Fault, PromptMessage
from parley.services.turns import relay as relay_module
from parley.services.turns.events import END_SOMEWHERE, Numbered
from tests.responders import Gated, Scripted
from tests.turn_process import Process, events_of

PATIENCE_SECONDS = 60
PIECES = [f"word-{number} " for number in range(30)]


class LostLog:
    """Takes what it is told to, and answers when it is there."""

    def __init__(self) -> None:
        self.is_there = True
        self.log: StreamLog = MemoryStreamLog(retention_seconds=600)

    def check(self) -> None:
        if not self.is_there:
            raise Unavailable

    async def append(self, stretches: Sequence[Stretch]) -> Sequence[int]:
        self.check()
        return await self.log.append(stretches)

    async def read(self, places: Sequence[Place]) -> Sequence[Stretch]:
        self.check()
        return await self.log.read(places)


class Stepping:
    """Says one piece each time that `more` is put into its queue."""

    def __init__(self, *pieces: str, error: Exception | None = None) -> None:
        self.pieces = pieces
        self.steps = asyncio.Queue[None]()
        self.error = error

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.steps.put_nowait(None)

    async def stream(self, prompt: Sequence[PromptMessage], model: str) -> AsyncGenerator[str]:
        for piece in self.pieces:
            await self.steps.get()
            yield piece
        await self.steps.get()
        if self.error is not None:
            reason = "it was told to"
            raise Fault(reason, self.error)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "TICK_SECONDS", 0.005)
    monkeypatch.setattr(relay_module, "DOUBT_SECONDS", 0.05)
    # What a busy machine is late with does come.
    monkeypatch.setattr(relay_module, "LATE_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def the_last_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for: the log never gets the end of this test's turn."""
    monkeypatch.setattr(relay_module, "LATE_SECONDS", 0.05)


@pytest.fixture(params=["memory", "redis"])
async def log(request: pytest.FixtureRequest, monkeypatch) -> AsyncGenerator[StreamLog]:
    if request.param == "memory":
        yield MemoryStreamLog(retention_seconds=600)
        return
    monkeypatch.setattr("parley.crud.redis.connection.TIMEOUT_SECONDS", 10)
    url = request.getfixturevalue("redis_url")
    common = RedisCommon(url, retention_seconds=600, prefix=f"test-{new_id().hex}")
    yield common.events
    await common.close()


async def read_elsewhere(
    process: Process, user_id: str, started: TurnStarted, after: int = 0
) -> list[Numbered]:
    reading = await process.turns.read(user_id, started.turn_id)
    try:
        return await events_of(reading.events, after)
    finally:
        reading.leave()


class TestWhileItRuns:
    async def test_another_process_tells_the_same_from_any_event_on(
        self, store: Store, log: StreamLog, alice: str
    ):
        model = Stepping(*PIECES)
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            begun = await here.ask(alice)
            started = await begun.events.started()
            model.step(10)
            afters = range(0, 33, 4)
            readers = [
                asyncio.create_task(read_elsewhere(there, alice, started, after))
                for after in afters
            ]
            model.step(25)
            whole = await events_of(begun.events)
            found = await asyncio.gather(*readers)

        assert 32 == len(whole)
        assert [whole[after:] for after in afters] == found

    async def test_it_is_told_as_it_comes(self, store: Store, log: StreamLog, alice: str):
        model = Stepping("one ", "two ")
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            started = await here.begin(alice)
            reading = await there.turns.read(alice, started.turn_id)
            events = reading.events.read(1)
            model.step()
            assert [(2, Delta(text="one "))] == await anext(events)
            model.step()
            assert [(3, Delta(text="two "))] == await anext(events)
            model.step()
            assert isinstance((await anext(events))[0].event, ChatReply)
            reading.leave()

    async def test_a_failure_is_told_alike(self, store: Store, log: StreamLog, alice: str):
        model = Stepping("half", error=ModelError("It broke off."))
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            begun = await here.ask(alice)
            model.step(3)
            whole = await events_of(begun.events)
            found = await read_elsewhere(there, alice, await begun.events.started())

        assert whole == found
        assert isinstance(whole[-1].event, Problem)
        assert whole[-1].event.request_id

    async def test_many_readers_of_one_turn_are_one_to_the_log(self, store: Store, alice: str):
        class Counting(LostLog):
            most = 0

            async def read(self, places: Sequence[Place]) -> Sequence[Stretch]:
                self.most = max(self.most, len(places))
                return await super().read(places)

        log, model = Counting(), Stepping(*PIECES)
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            started = await here.begin(alice)
            readers = [
                asyncio.create_task(read_elsewhere(there, alice, started)) for _ in range(20)
            ]
            model.step(31)
            found = await asyncio.gather(*readers)

        assert 1 == log.most
        assert all(events == found[0] for events in found)
        assert {} == there.relay._followed  # noqa: SLF001 - who has left leaves nothing behind

    async def test_who_leaves_takes_nothing_along(self, store: Store, alice: str):
        model = Stepping("one")
        log = LostLog()
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            started = await here.begin(alice)
            first, second = [await there.turns.read(alice, started.turn_id) for _ in range(2)]
            first.leave()
            model.step(2)
            assert isinstance((await events_of(second.events))[-1].event, ChatReply)
            second.leave()
            before = asyncio.all_tasks()
            third = await there.turns.read(alice, started.turn_id)
            third.leave()
            await asyncio.sleep(0)
            assert not asyncio.all_tasks() - before


class TestAfterIt:
    @pytest.mark.parametrize("error", [None, ModelError("It broke off.")])
    async def test_it_is_told_the_same_for_a_while_here_and_elsewhere(
        self, store: Store, log: StreamLog, alice: str, error: Exception | None
    ):
        here, there = (Process(store, Scripted(*PIECES, error=error), log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            begun = await here.ask(alice)
            whole = await events_of(begun.events)
            await here.idle()
            started = await begun.events.started()
            for process in (here, there):
                for after in (0, 1, 17, 31):
                    assert whole[after:] == await read_elsewhere(process, alice, started, after)

    async def test_one_that_said_nothing_too(self, store: Store, log: StreamLog, alice: str):
        process = Process(store, Scripted(error=ModelError("It makes no sense.")), log=log)
        async with process.relaying():
            begun = await process.ask(alice)
            whole = await events_of(begun.events)
            await process.idle()

            found = await read_elsewhere(process, alice, await begun.events.started())
        assert [1, 2] == [number for number, _ in found]
        assert whole == found

    @pytest.mark.usefixtures("the_last_is_lost")
    @pytest.mark.parametrize("pieces", [[], ["one ", "two"]])
    async def test_then_its_events_are_gone_and_the_turn_is_there(
        self, store: Store, alice: str, pieces: list[str]
    ):
        process = Process(
            store,
            Scripted(*pieces),
            log=MemoryStreamLog(retention_seconds=0),
            stream_retention_seconds=0,
        )
        async with process.relaying():
            begun = await process.ask(alice, key="k", streamed=True)
            started = await begun.events.started()
            await begun.events.ended()
            await process.idle()

            with pytest.raises(EventsGone) as gone:
                await process.turns.read(alice, started.turn_id)
            assert str(started.turn_id) == gone.value.members["turn_id"]
            assert {} == process.relay._followed  # noqa: SLF001
            assert bool(pieces) == (
                (await process.turns.get(alice, started.turn_id)).reply is not None
            )

    @pytest.mark.usefixtures("the_last_is_lost")
    async def test_a_replay_is_then_the_reply_in_one_piece(self, store: Store, alice: str):
        process = Process(store, Scripted("one ", "two"), log=MemoryStreamLog(retention_seconds=0))
        async with process.relaying():
            said = await process.say(alice, "hello", key="k")
            await process.idle()
            while process.relay._carried:  # noqa: SLF001 - until the log knows that it has ended
                await asyncio.sleep(0)
            again = await process.ask(alice, key="k", streamed=True)
            found = await events_of(again.events)
            again.leave()

        assert [Delta(text="one two"), said] == [event for _, event in found][1:]
        assert again.is_replayed

    async def test_another_users_is_as_missing_as_nobodys(
        self, store: Store, alice: str, bob: str
    ):
        process = Process(store, Gated("first "))
        started = await process.begin(alice)
        for user_id, turn_id in ((bob, started.turn_id), (alice, new_id())):
            with pytest.raises(TurnNotFound):
                await process.turns.read(user_id, turn_id)
        await process.runner.stop(grace_seconds=0)


class TestLostLog:
    @pytest.mark.usefixtures("the_last_is_lost")
    async def test_the_direct_reader_keeps_its_stream_and_who_resumes_gets_it_whole(
        self, store: Store, alice: str
    ):
        log, model = LostLog(), Stepping("one ", "two ", "three")
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            begun = await here.ask(alice)
            started = await begun.events.started()
            reading = await there.turns.read(alice, started.turn_id)
            events = reading.events.read()
            model.step()
            assert [1] == [number for number, _ in await anext(events)]
            assert [(2, Delta(text="one "))] == await anext(events)
            log.is_there = False
            resumed = asyncio.create_task(read_elsewhere(there, alice, started, 3))
            model.step(3)
            whole = await events_of(begun.events)
            rest = [numbered async for several in events for numbered in several]
            reading.leave()

        assert ["one ", "two ", "three"] == [e.text for _, e in whole if isinstance(e, Delta)]
        last = (END_SOMEWHERE, whole[-1].event)
        assert [(END_SOMEWHERE - 1, Delta(text="two three")), last] == rest
        assert [last] == await resumed

    async def test_a_log_that_was_emptied_is_filled_again(self, store: Store, alice: str):
        log, model = LostLog(), Stepping("one ", "two ", "three")
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            begun = await here.ask(alice)
            started = await begun.events.started()
            model.step()
            while not (await log.read([Place(alice, started.turn_id, 0)]))[0].pieces:
                await asyncio.sleep(0)
            log.log = MemoryStreamLog(retention_seconds=600)
            model.step(3)
            whole = await events_of(begun.events)

            assert whole == await read_elsewhere(there, alice, started)

    async def test_many_turns_come_through_an_outage(self, store: Store, alice: str):
        """Each question to the log is small, however much there is to say when it is back."""

        class Measuring(LostLog):
            largest = 0

            async def append(self, stretches: Sequence[Stretch]) -> Sequence[int]:
                said = sum(len(piece) for stretch in stretches for piece in stretch.pieces)
                self.largest = max(self.largest, said, len(stretches) * 1000)
                return await super().append(stretches)

        log = Measuring()
        log.is_there = False
        model = Stepping(*["x" * 100] * 300)
        process = Process(store, model, log=log, reply_max_characters=30_000)
        other = Process(store, model, log=log)
        async with process.relaying(), other.relaying():
            begun = [await process.ask(alice) for _ in range(30)]
            model.step(30 * 300)
            while model.steps.qsize():
                await asyncio.sleep(0)
            log.is_there = True
            model.step(30)
            replies = [await reading.events.outcome() for reading in begun]
            await process.idle()
            for reading, reply in zip(begun, replies, strict=True):
                started = await reading.events.started()
                found = await read_elsewhere(other, alice, started)
                assert (302, reply) == (len(found), found[-1].event)

        assert log.largest <= relay_module.CHARACTERS_AT_ONCE

    async def test_a_turn_that_outlives_an_outage_is_kept_whole(self, store: Store, alice: str):
        log, model = LostLog(), Stepping("one ", "two ", "three")
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            begun = await here.ask(alice)
            log.is_there = False
            model.step(2)
            events = begun.events.read(1)
            assert 2 <= (await anext(events))[-1].number
            log.is_there = True
            model.step(2)
            whole = await events_of(begun.events)

            found = await read_elsewhere(there, alice, await begun.events.started())
        assert whole == found


class TestLostWorker:
    @pytest.mark.usefixtures("the_last_is_lost")
    async def test_who_resumes_is_told_once_the_lease_has_run_out(self, store: Store, alice: str):
        log, model = LostLog(), Gated("half")
        dead, alive = (Process(store, model, log=log) for _ in range(2))
        async with alive.relaying():
            async with dead.relaying():
                started = await dead.begin(alice)
                await model.asked.wait()
            reading = asyncio.create_task(read_elsewhere(alive, alice, started))
            await store.forget(dead.worker.id)
            *said, (_, end) = await reading

        assert isinstance(end, Problem)
        assert "worker-lost" == end.code
        assert [1, 2] == [number for number, _ in said]
        assert [started.turn_id, started.conversation_id] == [end.turn_id, end.conversation_id]
        model.gate.set()
        await dead.idle()

    @pytest.mark.usefixtures("the_last_is_lost")
    @pytest.mark.parametrize("after", [1, 2, 7])
    async def test_however_much_they_have_had(self, store: Store, alice: str, after: int):
        """A direct reader is ahead of the log: what it had last may never have been written."""
        log, model = LostLog(), Gated("half")
        dead, alive = (Process(store, model, log=log) for _ in range(2))
        async with alive.relaying():
            async with dead.relaying():
                started = await dead.begin(alice)
                await model.asked.wait()
            await store.forget(dead.worker.id)
            for _ in range(2):
                reading = await alive.turns.read(alice, started.turn_id)
                assert reading.events.has_more(after)
                *_, (number, end) = await events_of(reading.events, after)
                reading.leave()

                assert isinstance(end, Problem)
                assert "worker-lost" == end.code
                assert (number == 3) == (after < 3)
        model.gate.set()
        await dead.idle()

    @pytest.mark.usefixtures("the_last_is_lost")
    async def test_who_had_more_of_it_than_is_left_is_told_too_and_then_no_more(
        self, store: Store, alice: str
    ):
        """What the log has not got of a turn that was never recorded, nobody can count."""
        model = Stepping("one ", "two ")
        dead, alive = Process(store, model), Process(store, model)
        async with alive.relaying():
            begun = await dead.ask(alice)
            model.step(2)
            events = begun.events.read(2)
            assert [(3, Delta(text="two "))] == await anext(events)
            await store.forget(dead.worker.id)

            started = await begun.events.started()
            ((number, end),) = await read_elsewhere(alive, alice, started, 3)
            assert [] == await read_elsewhere(alive, alice, started, number)
            reading = await alive.turns.read(alice, started.turn_id)
            assert (True, False) == (reading.events.has_more(3), reading.events.has_more(number))
            reading.leave()

        assert isinstance(end, Problem)
        assert "worker-lost" == end.code
        model.step()
        await dead.idle()

    async def test_a_conversation_that_is_deleted_ends_its_streams(self, store: Store, alice: str):
        log, model = LostLog(), Gated("half")
        here, there = (Process(store, model, log=log) for _ in range(2))
        async with here.relaying(), there.relaying():
            started = await here.begin(alice)
            await model.asked.wait()
            reading = await there.turns.read(alice, started.turn_id)
            async with store.begin(alice) as tx:
                await tx.conversations.delete(started.conversation_id)
            *_, (_, end) = await events_of(reading.events)
            reading.leave()
            model.gate.set()
            await here.idle()

        assert isinstance(end, Problem)
        assert ConversationNotFound.code == end.code


class TestLeaving:
    async def test_who_reads_anothers_turn_is_let_go_to_read_on_elsewhere(
        self, store: Store, alice: str
    ):
        log, model = LostLog(), Stepping("one ", "two")
        here, there, stays = (Process(store, model, log=log) for _ in range(3))
        async with here.relaying(), there.relaying(), stays.relaying():
            begun = await here.ask(alice, key="k")
            started = await begun.events.started()
            reading = await there.turns.read(alice, started.turn_id)
            events = reading.events.read()
            assert [1] == [number for number, _ in await anext(events)]
            joined = asyncio.create_task(there.say(alice, "hello", key="k"))
            model.step()
            assert [2] == [number for number, _ in await anext(events)]

            there.runner.let_go()

            assert [] == [several async for several in events]
            with pytest.raises(Draining):
                await joined
            reading.leave()
            model.step(2)
            whole = await events_of(begun.events)
            assert whole[2:] == await read_elsewhere(stays, alice, started, 2)

    async def test_its_own_turns_are_read_to_their_end(self, store: Store, alice: str):
        model = Gated("half ")
        process = Process(store, model)
        async with process.relaying():
            begun = await process.ask(alice)
            await model.asked.wait()
            process.runner.let_go()
            model.gate.set()

            assert isinstance((await events_of(begun.events))[-1].event, ChatReply)

    @pytest.mark.parametrize("said", [0, 1], ids=["before its first word", "after it"])
    async def test_what_it_cuts_is_read_to_that_end_at_those_that_stay(
        self, store: Store, log: StreamLog, alice: str, said: int
    ):
        model = Stepping("half ", "never said")
        leaving, stays = (Process(store, model, log=log) for _ in range(2))
        async with leaving.relaying(), stays.relaying():
            begun = await leaving.ask(alice)
            started = await begun.events.started()
            events = begun.events.read(1)
            model.step(said)
            heard = [(await anext(events))[0] for _ in range(said)]
            await leaving.runner.stop(grace_seconds=0)
            heard += [one async for several in events for one in several]

            assert heard == await read_elsewhere(stays, alice, started, 1)

        assert isinstance(heard[-1].event, Problem)
        assert Draining.code == heard[-1].event.code
