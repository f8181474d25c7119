"""A turn that is asked to end, by whichever process."""

import asyncio
from contextlib import suppress
from io import StringIO
from uuid import UUID

import pytest
from httpx import AsyncClient

from parley.core.errors import (
    ConversationNotFound,
    ModelError,
    Overloaded,
    TurnCancelled,
    TurnNotFound,
)
from parley.core.ids import new_id
from parley.crud.ports import Store
from parley.schemas.conversations import MessageStatus
from parley.schemas.turns import TurnStatus
from parley.services.turns.service import Reading
from tests.events import parse
from tests.factories import accept, make_conversation, messages_of, new_turn
from tests.responders import Gated, Scripted, failures_in
from tests.stores import Around, nothing
from tests.turn_process import Process, turn_of


def hold_writes(around: Around) -> asyncio.Event:
    """Nothing is recorded before the event: who looks meanwhile finds a turn that runs."""
    may_write = asyncio.Event()

    async def wait(_: str, read_only: bool) -> None:  # noqa: FBT001 - a hook
        if not read_only:
            await may_write.wait()

    around.before = wait
    return may_write


class TestHere:
    async def test_what_was_said_is_recorded_as_cancelled_and_the_model_is_let_go(
        self, store: Store, alice: str
    ):
        around, model = Around(store), Gated("half ")
        process = Process(around, model)
        begun = await process.ask(alice)
        started = await begun.events.started()
        await model.asked.wait()

        may_write = hold_writes(around)
        asked = await process.turns.cancel(alice, started.turn_id)
        may_write.set()
        reply = await begun.events.outcome()

        assert TurnStatus.RUNNING == asked.status
        assert ("half ", MessageStatus.CANCELLED) == (reply.reply.content, reply.reply.status)
        assert MessageStatus.COMPLETE == reply.message.status
        assert model.was_closed
        turn = await turn_of(store, alice, started.turn_id)
        assert (TurnStatus.CANCELLED, None) == (turn.status, turn.problem)

    async def test_before_the_first_piece_nothing_is_recorded_and_its_key_is_free(
        self, store: Store, alice: str
    ):
        model = Gated()
        process = Process(store, model)
        begun = await process.ask(alice, key="k")
        started = await begun.events.started()
        await model.asked.wait()
        await process.turns.cancel(alice, started.turn_id)

        with pytest.raises(TurnCancelled) as told:
            await begun.events.outcome()
        assert str(started.turn_id) == told.value.members["turn_id"]
        assert [] == await messages_of(store, alice, started.conversation_id)
        turn = await turn_of(store, alice, started.turn_id)
        assert turn.problem is not None
        assert (TurnStatus.CANCELLED, "turn-cancelled") == (turn.status, turn.problem.code)
        await process.idle()
        model.gate.set()
        assert "re: hello" == (await process.say(alice, "hello", key="k")).reply.content

    async def test_the_model_is_shown_it_with_the_next_message(self, store: Store, alice: str):
        """Unlike a failure: the user has seen what was said, and meant it to end there."""
        stopped = Gated("half")
        process = Process(store, stopped)
        started = await process.begin(alice)
        await stopped.asked.wait()
        await process.turns.cancel(alice, started.turn_id)
        await process.idle()
        model = Scripted("ok")
        await Process(store, model).say(alice, "go on", started.conversation_id)

        assert ["hello", "half", "go on"] == [message.content for message in model.prompts[0]]

    async def test_one_that_has_ended_stays_as_it_is(self, store: Store, alice: str):
        process = Process(store, Scripted("ok"))
        said = await process.say(alice, "hello")
        await process.idle()

        assert TurnStatus.COMPLETE == (await process.turns.cancel(alice, said.turn_id)).status
        assert said.reply.status is MessageStatus.COMPLETE

    async def test_another_users_is_as_missing_as_nobodys(
        self, store: Store, alice: str, bob: str
    ):
        model = Gated("half")
        process = Process(store, model)
        started = await process.begin(alice)
        for user_id, turn_id in ((bob, started.turn_id), (alice, new_id())):
            with pytest.raises(TurnNotFound):
                await process.turns.cancel(user_id, turn_id)

        await process.look_for_cancels()
        model.gate.set()
        await process.idle()
        assert TurnStatus.COMPLETE == (await turn_of(store, alice, started.turn_id)).status


class TestElsewhere:
    async def test_the_process_that_runs_it_finds_out(self, store: Store, alice: str, bob: str):
        model = Gated("half ")
        here, there = (Process(store, model) for _ in range(2))
        cancelled = await here.ask(alice)
        started = await cancelled.events.started()
        others = [await here.ask(user_id, "another") for user_id in (alice, bob)]
        await model.asked.wait()

        await there.turns.cancel(alice, started.turn_id)
        await here.look_for_cancels()

        assert MessageStatus.CANCELLED == (await cancelled.events.outcome()).reply.status
        model.gate.set()
        assert ["half re: another"] * 2 == [
            (await other.events.outcome()).reply.content for other in others
        ]

    async def test_of_a_conversation_that_is_deleted_the_model_is_let_go(
        self, store: Store, alice: str
    ):
        model = Gated("half ")
        here = Process(store, model)
        begun = await here.ask(alice)
        started = await begun.events.started()
        await model.asked.wait()
        async with store.begin(alice) as tx:
            await tx.conversations.delete(started.conversation_id)
        await here.look_for_cancels()

        with pytest.raises(ConversationNotFound):
            await begun.events.outcome()
        assert model.was_closed

    async def test_one_that_is_just_being_accepted_goes_on(
        self, store: Store, alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        process = Process(store, Scripted("ok"))
        worker_id = process.worker.id
        conversation = await make_conversation(store, alice)
        reached, go_on = asyncio.Event(), asyncio.Event()
        ensure_lease = process.worker.ensure_lease

        async def slowly() -> None:
            await ensure_lease()
            reached.set()
            await go_on.wait()

        monkeypatch.setattr(process.worker, "ensure_lease", slowly)
        asking = asyncio.create_task(process.say(alice, "hello", conversation.id))
        await reached.wait()
        other = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(other.id, worker_id=worker_id))
        await process.turns.cancel(alice, turn.id)
        await process.look_for_cancels()
        go_on.set()

        assert MessageStatus.COMPLETE == (await asking).reply.status

    async def test_so_does_one_that_begins_while_it_looks(self, store: Store, alice: str):
        around, model, begun = Around(store), Gated("half "), list[Reading]()
        process = Process(around, model)
        started = await process.begin(alice)
        await Process(store, model).turns.cancel(alice, started.turn_id)

        async def begin_another(*_: object) -> None:
            around.behind = nothing
            begun.append(await process.ask(alice))

        around.behind = begin_another
        await process.look_for_cancels()
        model.gate.set()

        (other,) = begun
        assert MessageStatus.COMPLETE == (await other.events.outcome()).reply.status

    @pytest.mark.parametrize("fault", [Overloaded, ZeroDivisionError], ids=["full", "bug"])
    async def test_who_cannot_be_looked_through_keeps_nobody_elses_turn_running(
        self, store: Store, alice: str, bob: str, fault: type[Exception], logged: StringIO
    ):
        around, model = Around(store), Gated("half ")
        process = Process(around, model)
        hers, his = [await process.ask(user_id) for user_id in (alice, bob)]
        for user_id, reading in ((alice, hers), (bob, his)):
            turn_id = (await reading.events.started()).turn_id
            await Process(store, model).turns.cancel(user_id, turn_id)
        await model.asked.wait()

        async def refuse_alice(user_id: str, _: bool) -> None:  # noqa: FBT001 - a hook
            if user_id == alice:
                raise fault

        around.before = refuse_alice
        await process.look_for_cancels()
        assert MessageStatus.CANCELLED == (await his.events.outcome()).reply.status
        assert hers.events.end is None
        is_told = '"cancel-watch-crashed"' in logged.getvalue()
        assert is_told is (fault is ZeroDivisionError)

        around.before = nothing
        await process.look_for_cancels()
        assert MessageStatus.CANCELLED == (await hers.events.outcome()).reply.status

    async def test_nobody_waits_for_a_user_who_keeps_the_store_busy(
        self, store: Store, alice: str, bob: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("parley.services.turns.cancels.LOOK_SECONDS", 0.01)
        around, model = Around(store), Gated("half ")
        here, there = Process(around, model), Process(store, model)
        hers, his = [await here.ask(user_id) for user_id in (alice, bob)]
        for reading in (hers, his):
            await reading.events.started()
        is_looked_for, has_room = asyncio.Event(), asyncio.Event()

        async def keep_alice_waiting(user_id: str, read_only: bool) -> None:  # noqa: FBT001 - a hook
            if user_id == alice and read_only:
                is_looked_for.set()
                await has_room.wait()

        around.before = keep_alice_waiting
        here.cancels.start()
        await there.turns.cancel(alice, (await hers.events.started()).turn_id)
        await is_looked_for.wait()
        await there.turns.cancel(bob, (await his.events.started()).turn_id)

        assert MessageStatus.CANCELLED == (await his.events.outcome()).reply.status
        assert hers.events.end is None
        has_room.set()
        assert MessageStatus.CANCELLED == (await hers.events.outcome()).reply.status
        await here.cancels.stop()

    async def test_nor_is_one_forgotten_that_begins_while_its_user_waits_to_be_looked_through(
        self, store: Store, alice: str, bob: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("parley.services.turns.cancels.ASKING_AT_ONCE", 1)
        around, model = Around(store), Gated("half ")
        here, there = Process(around, model), Process(store, model)
        is_looked_for, has_room = asyncio.Event(), asyncio.Event()

        async def keep_bob_waiting(user_id: str, read_only: bool) -> None:  # noqa: FBT001 - a hook
            if user_id == bob and read_only:
                is_looked_for.set()
                await has_room.wait()

        async def cancel_one_more(user_id: str) -> Reading:
            reading = await here.ask(user_id)
            await there.turns.cancel(user_id, (await reading.events.started()).turn_id)
            await here.cancels.look()
            await asyncio.sleep(0)
            return reading

        around.before = keep_bob_waiting
        readings = [await cancel_one_more(bob)]
        await is_looked_for.wait()
        readings += [await cancel_one_more(alice) for _ in range(2)]
        has_room.set()
        await here.look_for_cancels()
        await here.look_for_cancels()

        for reading in readings:
            assert MessageStatus.CANCELLED == (await reading.events.outcome()).reply.status

    async def test_nor_one_whose_acceptance_is_late_to_be_heard_of(self, store: Store, alice: str):
        around, model = Around(store), Gated("half ")
        here, there = Process(around, model), Process(store, model)
        is_accepted, is_heard = asyncio.Event(), asyncio.Event()

        async def be_late(_: str, read_only: bool) -> None:  # noqa: FBT001 - a hook
            if not read_only:
                is_accepted.set()
                await is_heard.wait()

        around.behind = be_late
        asking = asyncio.create_task(here.ask(alice))
        await is_accepted.wait()
        (live,) = here.runner.by_user()[alice]
        await there.turns.cancel(alice, live.turn.id)
        await here.look_for_cancels()
        is_heard.set()
        reading = await asking
        await here.look_for_cancels()

        assert live.interruption is not None
        around.behind = nothing
        model.gate.set()
        with suppress(TurnCancelled):
            await reading.events.outcome()

    async def test_who_has_nothing_running_is_not_asked_for(
        self, store: Store, alice: str, bob: str
    ):
        around, model, asked = Around(store), Gated("half "), list[str]()
        process = Process(around, model)
        hers, _ = [await process.ask(user_id) for user_id in (alice, bob)]
        turn_id = (await hers.events.started()).turn_id
        await Process(store, model).turns.cancel(alice, turn_id)

        async def refuse(user_id: str, read_only: bool) -> None:  # noqa: FBT001 - a hook
            if read_only:
                asked.append(user_id)
                raise Overloaded

        around.before = refuse
        await process.cancels.look()
        model.gate.set()
        await process.idle()
        await process.look_for_cancels()
        asked.clear()
        await process.look_for_cancels()

        assert [] == asked

    async def test_nobody_is_looked_through_as_long_as_nothing_is_asked(
        self, store: Store, alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        model = Gated("half ")
        process = Process(store, model)
        started = await process.begin(alice)
        looked_through: list[str] = []
        by_user = process.runner.by_user
        monkeypatch.setattr(
            process.runner, "by_user", lambda: looked_through.append("all") or by_user()
        )
        for _ in range(3):
            await process.look_for_cancels()
        assert [] == looked_through
        await Process(store, model).turns.cancel(alice, started.turn_id)
        for _ in range(3):
            await process.look_for_cancels()
        assert ["all"] == looked_through
        await process.idle()

    @pytest.mark.parametrize("fault", [Overloaded, ZeroDivisionError], ids=["full", "bug"])
    async def test_it_looks_by_itself_and_again_when_that_failed(
        self,
        store: Store,
        alice: str,
        fault: type[Exception],
        monkeypatch: pytest.MonkeyPatch,
        logged: StringIO,
    ):
        monkeypatch.setattr("parley.services.turns.cancels.LOOK_SECONDS", 0.01)
        around, model = Around(store), Gated("half ")
        here, there = Process(around, model), Process(store, model)

        async def fail(_: UUID) -> int:
            around.cancels = store.cancels
            raise fault

        around.cancels = fail
        here.cancels.start()
        begun = await here.ask(alice)
        await model.asked.wait()
        await there.turns.cancel(alice, (await begun.events.started()).turn_id)

        assert MessageStatus.CANCELLED == (await begun.events.outcome()).reply.status
        is_told = '"cancel-watch-crashed"' in logged.getvalue()
        assert is_told is (fault is ZeroDivisionError)
        await here.cancels.stop()

    async def test_one_whose_process_is_gone_is_closed_at_once(self, store: Store, alice: str):
        model = Gated("half ")
        dead, alive = (Process(store, model) for _ in range(2))
        started = await dead.begin(alice)
        await model.asked.wait()
        await store.forget(dead.worker.id)

        turn = await alive.turns.cancel(alice, started.turn_id)

        assert turn.problem is not None
        assert (TurnStatus.FAILED, "worker-lost") == (turn.status, turn.problem.code)
        model.gate.set()
        await dead.idle()


class TestRace:
    async def test_many_at_once_are_one(self, store: Store, alice: str):
        model = Gated("half ")
        process = Process(store, model)
        begun = await process.ask(alice)
        await model.asked.wait()
        turn_id = (await begun.events.started()).turn_id
        live = process.runner.find(alice, turn_id)
        assert live is not None

        # Between the moment that its time runs out and that in which it notices.
        live.interrupt(TurnCancelled())
        await asyncio.sleep(0)
        live.interrupt(TurnCancelled())
        await asyncio.gather(*(process.turns.cancel(alice, turn_id) for _ in range(20)))

        assert MessageStatus.CANCELLED == (await begun.events.outcome()).reply.status

    async def test_the_first_reason_counts(self, store: Store, alice: str):
        """Who shuts down does not make a failure of what was cancelled."""
        model = Gated("half ")
        process = Process(store, model)
        begun = await process.ask(alice)
        await model.asked.wait()
        await process.turns.cancel(alice, (await begun.events.started()).turn_id)
        await process.runner.stop(grace_seconds=0)

        assert MessageStatus.CANCELLED == (await begun.events.outcome()).reply.status

    @pytest.mark.parametrize("is_cancelled", [True, False])
    @pytest.mark.parametrize("first", ["", "half "])
    async def test_who_is_not_heard_out_has_not_failed(
        self, store: Store, alice: str, logged: StringIO, first: str, *, is_cancelled: bool
    ):
        """Neither where a user cancels, nor where the process is about to go."""
        model = Gated(first)
        process = Process(store, model)
        begun = await process.ask(alice)
        await model.asked.wait()
        if is_cancelled:
            await process.turns.cancel(alice, (await begun.events.started()).turn_id)
        await process.runner.stop(grace_seconds=0)

        assert begun.events.end is not None
        assert [] == failures_in(logged)

    async def test_a_model_that_fails_all_the_same_has_failed(self, store: Store, alice: str):
        process = Process(store, Scripted("half", error=ModelError("It broke off.")))
        begun = await process.ask(alice)
        with pytest.raises(ModelError):
            await begun.events.outcome()


class TestHttp:
    @pytest.fixture
    def store(self, store: Store) -> Around:
        return Around(store)

    @pytest.fixture
    def responder(self) -> Gated:
        return Gated("half ")

    async def test_202_and_the_stream_ends_with_what_there_is(
        self, say, client: AsyncClient, alice: str, bearer, responder: Gated, store: Around
    ):
        streaming = asyncio.create_task(say(stream=True))
        await responder.asked.wait()
        listed = await client.get("/api/v1/conversations", headers=bearer(alice))
        path = f"/api/v1/conversations/{listed.json()['items'][0]['id']}"
        running = (await client.get(path, headers=bearer(alice))).json()["running_turn"]

        may_write = hold_writes(store)
        answer = await client.post(
            f"/api/v1/turns/{UUID(running['id'])}/cancel", headers=bearer(alice)
        )
        may_write.set()

        assert (202, "running") == (answer.status_code, answer.json()["status"])
        *_, done = parse((await streaming).text)
        assert ("done", "cancelled", "half ") == (
            done.name,
            done.data["reply"]["status"],
            done.data["reply"]["content"],
        )
        again = await client.post(f"/api/v1/turns/{running['id']}/cancel", headers=bearer(alice))
        assert (202, "cancelled") == (again.status_code, again.json()["status"])
