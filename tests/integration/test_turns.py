"""What becomes of a turn when something goes wrong around it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from parley.cli.migrate import upgrade
from parley.core.database import create_engine, for_reading
from parley.core.errors import AppError, DatabaseUnavailable, Draining, InternalError, WorkerLost
from parley.core.settings import Settings
from parley.crud.memory.store import MemoryStore
from parley.crud.ports import Store, Transaction
from parley.crud.sql.conversations import SqlConversations
from parley.main import create_app
from parley.schemas.turns import ChatReply, TurnStatus
from parley.services.responders.base import Receipt
from parley.services.turns import runner as runner_module
from parley.services.workers import Worker
from tests.factories import messages_of
from tests.responders import Gated, Scripted
from tests.stores import TIMEOUT_SECONDS, patient_store
from tests.turn_process import Process, turn_of


class Treacherous:
    """
    A store that loses its answers, as a connection cut during COMMIT does.

    `lose(n, after_commit)` makes the n-th next transaction fail, before or after its commit.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._losing: dict[int, bool] = {}
        self._holding: int | None = None
        self.held, self.go_on = asyncio.Event(), asyncio.Event()
        self.error: Exception = DatabaseUnavailable()
        self.count = 0

    def lose(self, *which: int, after_commit: bool) -> None:
        self._losing |= {self.count + n: after_commit for n in which}

    def hold(self, which: int) -> None:
        """Make the n-th next transaction wait for `go_on`, once `held` is set."""
        self._holding = self.count + which

    @asynccontextmanager
    async def begin(self, user_id: str, *, read_only: bool = False) -> AsyncGenerator[Transaction]:
        self.count += 1
        after_commit = self._losing.pop(self.count, None)
        if self.count == self._holding:
            self.held.set()
            await self.go_on.wait()
        async with self._store.begin(user_id, read_only=read_only) as tx:
            yield tx
            if after_commit is False:
                raise self.error
        if after_commit:
            raise self.error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture(autouse=True)
def settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "SETTLE_SECONDS", 0)


class TestReader:
    async def test_a_reader_who_leaves_does_not_end_the_turn(self, store: Store, alice: str):
        model = Gated("first ")
        process = Process(store, model)
        started = await process.begin(alice)
        await model.asked.wait()
        model.gate.set()
        await process.idle()

        turn = await turn_of(store, alice, started.turn_id)
        assert TurnStatus.COMPLETE == turn.status
        assert ["hello", "first re: hello"] == [
            m.content for m in await messages_of(store, alice, started.conversation_id)
        ]

    async def test_no_connection_is_held_while_the_model_thinks(self, store: Store, alice: str):
        model = Gated()
        process = Process(store, model)
        started = [await process.begin(alice) for _ in range(15)]
        await model.asked.wait()

        pool = store.pool()
        assert pool is None or 0 == pool.in_use

        model.gate.set()
        await process.idle()
        for turn in started:
            assert TurnStatus.COMPLETE == (await turn_of(store, alice, turn.turn_id)).status


class TestShutdown:
    @pytest.mark.parametrize("first", ["", "half"])
    async def test_what_does_not_finish_in_the_grace_ends_with_what_it_has(
        self, store: Store, alice: str, first: str
    ):
        model = Gated(first)
        process = Process(store, model)
        saying = asyncio.create_task(process.say(alice, "hello"))
        await model.asked.wait()
        await process.runner.stop(grace_seconds=0)

        with pytest.raises(Draining) as refused:
            await saying
        assert model.was_closed
        turn = await turn_of(store, alice, UUID(refused.value.extensions["turn_id"]))
        assert turn.problem is not None
        assert (TurnStatus.FAILED, "draining") == (turn.status, turn.problem.code)
        assert (turn.reply and turn.reply.content) == (first or None)

    async def test_what_finishes_in_the_grace_is_whole(self, store: Store, alice: str):
        model = Gated()
        process = Process(store, model)
        started = await process.begin(alice)
        await model.asked.wait()
        stopping = asyncio.create_task(process.runner.stop(grace_seconds=30))
        await asyncio.sleep(0)  # `stop` has begun to wait
        assert process.runner.is_draining
        model.gate.set()
        await stopping

        assert TurnStatus.COMPLETE == (await turn_of(store, alice, started.turn_id)).status

    async def test_a_turn_that_is_being_recorded_is_no_obstacle_to_the_others(
        self, store: Store, alice: str
    ):
        """Nothing listens there any more that could be interrupted."""
        slow, model = Treacherous(store), Gated("half")
        process = Process(slow, model)
        listening = asyncio.create_task(process.say(alice, "listening"))
        await model.asked.wait()
        recording = Process(slow, Scripted("ok"), runner=process.runner)
        slow.hold(2)
        recorded = asyncio.create_task(recording.say(alice, "recording"))
        await slow.held.wait()

        stopping = asyncio.create_task(process.runner.stop(grace_seconds=0))
        with pytest.raises(Draining):
            await listening
        slow.go_on.set()
        await stopping

        assert isinstance(await recorded, ChatReply)

    async def test_nothing_new_is_begun(self, store: Store, alice: str):
        process = Process(store, Scripted("ok"))
        await process.runner.stop(grace_seconds=0)

        with pytest.raises(Draining):
            await process.say(alice, "hello")


class TestRace:
    @pytest.mark.parametrize("backend", ["postgres"])
    async def test_what_was_recorded_until_the_slot_was_taken_is_part_of_the_history(
        self, store: Store, alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        """SQLite and memory let nobody record while somebody accepts."""
        slow, model = Gated("first "), Scripted("ok")
        early, late = Process(store, slow), Process(store, model)
        started = await early.begin(alice)
        await slow.asked.wait()
        lock = SqlConversations.lock

        async def lock_after_the_other(self: SqlConversations, conversation_id: UUID) -> Any:
            slow.gate.set()
            await early.idle()
            return await lock(self, conversation_id)

        monkeypatch.setattr(SqlConversations, "lock", lock_after_the_other)
        reply = await late.say(alice, "late", started.conversation_id)

        assert 3 == reply.message.position
        assert ["hello", "first re: hello", "late"] == [m.content for m in model.prompts[0]]


class TestLostWorker:
    async def test_the_next_message_closes_the_turn_of_a_dead_worker(
        self, store: Store, alice: str
    ):
        model = Gated("half")
        dead, alive = Process(store, model), Process(store, Scripted("ok"))
        started = await dead.begin(alice)
        await model.asked.wait()
        await store.forget(dead.worker.id)

        reply = await alive.say(alice, "again", started.conversation_id)

        assert isinstance(reply, ChatReply)
        closed = await turn_of(store, alice, started.turn_id)
        assert closed.problem is not None
        assert (TurnStatus.FAILED, "worker-lost") == (closed.status, closed.problem.code)
        assert "hello" == closed.message.content

        model.gate.set()
        await dead.idle()
        assert ["again", "ok"] == [
            m.content for m in await messages_of(store, alice, started.conversation_id)
        ]

    async def test_who_waits_for_a_reply_of_a_lost_lease_is_told(self, store: Store, alice: str):
        model = Gated("half")
        counted = Treacherous(store)
        process, other = Process(counted, model), Process(store, Scripted("ok"))
        started = await process.begin(alice)
        await model.asked.wait()
        model.asked.clear()
        saying = asyncio.create_task(process.say(alice, "mine"))
        await model.asked.wait()
        await store.forget(process.worker.id)
        await other.say(alice, "again", started.conversation_id)
        (mine,) = [
            turn.turn.conversation_id
            for turn in process.runner._running.values()  # noqa: SLF001
            if turn.turn.message == "mine"
        ]
        await other.say(alice, "again", mine)
        before = counted.count
        model.gate.set()

        with pytest.raises(WorkerLost):
            await saying
        await process.idle()
        # Each of the two turns is recorded once and settled once: what is lost stays lost.
        assert before + 4 == counted.count


class TestLease:
    async def test_a_process_that_starts_before_its_schema_keeps_its_lease_once_there_is_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("parley.services.workers.RENEW_SECONDS", 0.01)
        url = f"sqlite:///{tmp_path}/late.db"
        store = patient_store(url)
        # A new file becomes one that several may open at once only while nobody else opens it.
        await store.ping()
        worker = Worker(store)
        worker.start()
        await asyncio.to_thread(upgrade, url)

        async with asyncio.timeout(30):
            while await leases(url) == []:
                await asyncio.sleep(0.01)
            first = await leases(url)
            while await leases(url) == first:
                await asyncio.sleep(0.01)
        await worker.stop()
        assert [] == await leases(url)
        await store.close()

    async def test_nothing_of_a_process_runs_on_when_it_has_left(self):
        """A lease that somebody renewed after it was given back would keep its turns waiting."""
        app = create_app(Settings(auth_secret="x" * 32), store=MemoryStore())
        before = asyncio.all_tasks()
        async with app.router.lifespan_context(app):
            begun = [task.get_coro().__qualname__ for task in asyncio.all_tasks() - before]

        assert sorted(set(begun)) == sorted(begun)
        assert before == asyncio.all_tasks()

    async def test_leaving_does_not_need_the_store(self, tmp_path: Path):
        store = patient_store(f"sqlite:///{tmp_path}/none.db")
        worker = Worker(store)
        worker.start()
        await worker.stop()
        await store.close()


async def leases(url: str) -> list[Any]:
    engine = create_engine(url)
    async with for_reading(engine).connect() as connection:
        rows = await connection.execute(text("SELECT id, lease_until FROM workers"))
        found = [tuple(row) for row in rows]
    await engine.dispose()
    return found


class TestLostAnswers:
    async def test_a_turn_accepted_in_a_commit_whose_answer_was_lost_is_closed(
        self, store: Store, alice: str
    ):
        treacherous = Treacherous(store)
        process = Process(treacherous, Scripted("ok"))
        first = await process.say(alice, "hello")
        # Accepting commits and seems not to; closing it fails once, too.
        treacherous.lose(1, 2, after_commit=True)
        with pytest.raises(DatabaseUnavailable):
            await process.say(alice, "again", first.conversation_id)
        await process.idle()

        last = await process.say(alice, "once more", first.conversation_id)
        assert 3 == last.message.position

    @pytest.mark.parametrize("after_commit", [False, True])
    async def test_a_reply_outlives_one_lost_answer(
        self, store: Store, alice: str, monkeypatch: pytest.MonkeyPatch, *, after_commit: bool
    ):
        monkeypatch.setattr("parley.services.turns.recording.AWAY_SECONDS", TIMEOUT_SECONDS)
        treacherous = Treacherous(store)
        treacherous.lose(2, after_commit=after_commit)
        reply = await Process(treacherous, Scripted("ok")).say(alice, "hello")

        assert [reply.message, reply.reply] == await messages_of(
            store, alice, reply.conversation_id
        )

    async def test_a_reply_that_cannot_be_recorded_is_once_the_store_is_back(
        self, store: Store, alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        """Who waited was told; who asks again finds it, and pays for no second one."""
        monkeypatch.setattr("parley.services.turns.recording.AWAY_SECONDS", 0)
        treacherous, model = Treacherous(store), Gated("ok ")
        process = Process(treacherous, model)
        begun = await process.ask(alice, key="k")
        await model.asked.wait()
        treacherous.lose(1, 2, 3, after_commit=False)
        model.gate.set()
        with pytest.raises(DatabaseUnavailable) as refused:
            await begun.events.outcome()
        await process.idle()

        turn = await turn_of(store, alice, UUID(refused.value.extensions["turn_id"]))
        assert TurnStatus.COMPLETE == turn.status
        again = await process.ask(alice, key="k")
        assert (turn.reply, True) == (
            (await again.events.outcome()).reply,
            again.is_replayed,
        )


class TestBugs:
    async def test_a_bug_in_the_store_ends_the_turn_once_it_is_over(
        self, store: Store, alice: str
    ):
        treacherous = Treacherous(store)
        treacherous.error = RuntimeError("canary")
        # Recording fails, and closing the turn too, twice.
        treacherous.lose(2, 3, 4, after_commit=False)
        process = Process(treacherous, Scripted("ok"))
        with pytest.raises(InternalError) as refused:
            await process.say(alice, "hello")
        await process.idle()

        turn = await turn_of(store, alice, UUID(refused.value.extensions["turn_id"]))
        assert TurnStatus.FAILED == turn.status

    async def test_a_bug_ends_the_turn_and_says_nothing_of_itself(
        self, store: Store, alice: str, logged: StringIO
    ):
        process = Process(store, Scripted("half", error=RuntimeError("canary")))
        with pytest.raises(InternalError) as refused:
            await process.say(alice, "hello")

        turn = await turn_of(store, alice, UUID(refused.value.extensions["turn_id"]))
        assert turn.problem is not None
        assert (TurnStatus.FAILED, "internal-error") == (turn.status, turn.problem.code)
        assert "responder-crashed" in logged.getvalue()
        assert "canary" not in turn.model_dump_json() + logged.getvalue()

    async def test_a_bug_while_recording_ends_the_turn_too(self, store: Store, alice: str):
        process = Process(store, Scripted("ok", Receipt(model=7)))
        with pytest.raises(AppError) as refused:
            await process.say(alice, "hello")
        await process.idle()

        assert isinstance(refused.value, InternalError)
        turn = await turn_of(store, alice, UUID(refused.value.extensions["turn_id"]))
        assert TurnStatus.FAILED == turn.status
