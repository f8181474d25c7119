import asyncio

import pytest

from parley.core.errors import (
    ConversationMoved,
    ConversationNotFound,
    TurnInProgress,
    TurnNotFound,
    WorkerLost,
)
from parley.core.ids import new_id
from parley.crud.ports import Store
from parley.schemas.conversations import ConversationDraft, MessageStatus, Order, Role
from parley.schemas.turns import NewTurn, TurnStatus
from tests.databases import DatabaseUrls, connected
from tests.factories import PROBLEM, accept, make_conversation, new_reply, new_turn, record

WAITING_FOR_ANOTHER = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def close(store: Store, user_id: str, turn: NewTurn) -> None:
    async with store.begin(user_id) as tx:
        await tx.turns.close(turn, TurnStatus.FAILED, PROBLEM)


class TestAccept:
    async def test_an_accepted_turn_is_running_and_keeps_the_message(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id, "what I said"))

        async with store.begin(alice, read_only=True) as tx:
            found = await tx.turns.get(turn.id)
            running = await tx.turns.running(conversation.id)

        assert found == running
        assert TurnStatus.RUNNING == found.status
        assert "what I said" == found.message.content
        assert (None, None, None) == (found.reply, found.problem, found.ended_at)

    async def test_a_second_one_is_refused_until_the_first_has_ended(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        first = await accept(store, alice, new_turn(conversation.id))

        with pytest.raises(TurnInProgress):
            await accept(store, alice, new_turn(conversation.id))
        async with store.begin(alice) as tx:
            await tx.turns.close(first, TurnStatus.FAILED, PROBLEM)

        await accept(store, alice, new_turn(conversation.id))

    async def test_of_many_at_once_one_is_accepted(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)

        outcomes = await asyncio.gather(
            *(accept(store, alice, new_turn(conversation.id)) for _ in range(20)),
            return_exceptions=True,
        )

        assert 19 == sum(isinstance(outcome, TurnInProgress) for outcome in outcomes)

    async def test_a_conversation_that_is_not_there_takes_none(
        self, store: Store, alice: str, bob: str
    ):
        conversation = await make_conversation(store, bob)
        for missing in (conversation.id, new_id()):
            with pytest.raises(ConversationNotFound):
                await accept(store, alice, new_turn(missing))

    async def test_other_conversations_and_users_are_not_in_the_way(
        self, store: Store, alice: str, bob: str
    ):
        for user_id in (alice, alice, bob):
            conversation = await make_conversation(store, user_id)
            await accept(store, user_id, new_turn(conversation.id))


class TestRecord:
    async def test_both_messages_follow_the_length_and_the_turn_is_complete(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        await record(store, alice, conversation.id, "one")
        recorded = await record(store, alice, conversation.id, "two")

        async with store.begin(alice, read_only=True) as tx:
            page = await tx.messages.page(conversation.id, Order.OLDEST_FIRST, 10, None)
            turn = await tx.turns.get(recorded.turn_id)
            after = await tx.conversations.get(conversation.id)

        assert [1, 2, 3, 4] == [message.position for message in page]
        assert ["one", "re: one", "two", "re: two"] == [message.content for message in page]
        assert [recorded.message, recorded.reply] == page[2:]
        assert (Role.USER, Role.ASSISTANT) == (recorded.message.role, recorded.reply.role)
        assert (None, "echo") == (recorded.message.model, recorded.reply.model)
        assert recorded.message.created_at == turn.created_at
        assert (TurnStatus.COMPLETE, recorded.reply) == (turn.status, turn.reply)
        assert turn.ended_at is not None
        assert 4 == after.length
        assert after.updated_at > conversation.updated_at

    async def test_recording_again_is_the_same_as_once(self, store: Store, alice: str):
        """A commit whose answer was lost is found out by doing it again."""
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id))
        reply = new_reply()
        recorded = []
        for _ in range(2):
            async with store.begin(alice) as tx:
                recorded.append(await tx.turns.record(turn, 0, reply, None))

        async with store.begin(alice, read_only=True) as tx:
            page = await tx.messages.page(conversation.id, Order.OLDEST_FIRST, 10, None)
        assert recorded[0] == recorded[1]
        assert 2 == len(page)

    async def test_a_failed_reply_is_kept_and_marked_and_the_users_message_is_complete(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        recorded = await record(store, alice, conversation.id, "half", MessageStatus.FAILED)

        async with store.begin(alice, read_only=True) as tx:
            turn = await tx.turns.get(recorded.turn_id)
            page = await tx.messages.page(conversation.id, Order.OLDEST_FIRST, 10, None)

        assert (TurnStatus.FAILED, PROBLEM) == (turn.status, turn.problem)
        assert ["complete", "failed"] == [message.status for message in page]

    async def test_another_length_is_refused_and_nothing_is_written(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id))

        with pytest.raises(ConversationMoved):
            async with store.begin(alice) as tx:
                await tx.turns.record(turn, 2, new_reply(), None)

        async with store.begin(alice) as tx:
            assert TurnStatus.RUNNING == (await tx.turns.get(turn.id)).status
            assert [] == await tx.messages.history(
                conversation.id, 1000, max_messages=10, max_characters=10_000
            )

    async def test_a_deleted_conversation_is_not_found(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id))
        async with store.begin(alice) as tx:
            await tx.conversations.delete(conversation.id)

        with pytest.raises(ConversationNotFound):
            async with store.begin(alice) as tx:
                await tx.turns.record(turn, 0, new_reply(), None)

    async def test_a_turn_that_was_closed_meanwhile_records_nothing(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id))
        async with store.begin(alice) as tx:
            await tx.turns.close_abandoned(conversation.id, PROBLEM)

        with pytest.raises(WorkerLost):
            async with store.begin(alice) as tx:
                await tx.turns.record(turn, 0, new_reply(), None)

        async with store.begin(alice) as tx:
            assert [] == await tx.messages.history(
                conversation.id, 1000, max_messages=10, max_characters=10_000
            )
            assert 0 == (await tx.conversations.get(conversation.id)).length

    async def test_only_who_knows_the_fence_may_end_a_turn(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id))
        forged = turn.model_copy(update={"fence": new_id()})

        async with store.begin(alice) as tx:
            await tx.turns.close(forged, TurnStatus.FAILED, PROBLEM)
        with pytest.raises(WorkerLost):
            async with store.begin(alice) as tx:
                await tx.turns.record(forged, 0, new_reply(), None)

        async with store.begin(alice) as tx:
            assert TurnStatus.RUNNING == (await tx.turns.get(turn.id)).status


class TestFail:
    async def test_the_turn_keeps_the_message_and_says_why(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id, "what I said"))

        async with store.begin(alice) as tx:
            await tx.turns.close(turn, TurnStatus.FAILED, PROBLEM)

        async with store.begin(alice, read_only=True) as tx:
            found = await tx.turns.get(turn.id)
            assert [] == await tx.messages.history(
                conversation.id, 1000, max_messages=10, max_characters=10_000
            )
        assert (TurnStatus.FAILED, PROBLEM) == (found.status, found.problem)
        assert "what I said" == found.message.content

    async def test_one_whose_conversation_was_deleted_is_told_so(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id))
        async with store.begin(alice) as tx:
            await tx.conversations.delete(conversation.id)

        with pytest.raises(ConversationNotFound):
            async with store.begin(alice) as tx:
                await tx.turns.close(turn, TurnStatus.FAILED, PROBLEM)

    async def test_a_complete_turn_stays_complete(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id))
        async with store.begin(alice) as tx:
            await tx.turns.record(turn, 0, new_reply(), None)

        async with store.begin(alice) as tx:
            await tx.turns.close(turn, TurnStatus.FAILED, PROBLEM)

        async with store.begin(alice) as tx:
            assert TurnStatus.COMPLETE == (await tx.turns.get(turn.id)).status


class TestAnAnswerThatWasLost:
    """Who accepted a turn and was not told closes it; the commit may still be on its way."""

    @pytest.mark.parametrize("backend", ["postgres"])
    @pytest.mark.parametrize("is_new", [True, False])
    async def test_closing_waits_for_a_commit_that_is_not_through(
        self, store: Store, postgres: DatabaseUrls, alice: str, *, is_new: bool
    ):
        conversation_id = new_id() if is_new else (await make_conversation(store, alice)).id
        turn = new_turn(conversation_id, idempotency_key="k")
        accepted, commit = asyncio.Event(), asyncio.Event()

        async def accept_slowly() -> None:
            async with store.begin(alice) as tx:
                if is_new:
                    await tx.conversations.create(conversation_id, ConversationDraft())
                await tx.turns.accept(turn)
                accepted.set()
                await commit.wait()

        accepting = asyncio.create_task(accept_slowly())
        await accepted.wait()
        closing = asyncio.create_task(close(store, alice, turn))
        async with connected(postgres.admin) as admin:
            while not closing.done() and not await admin.fetchval(WAITING_FOR_ANOTHER):
                await asyncio.sleep(0.01)
        commit.set()
        await accepting
        await closing

        async with store.begin(alice, read_only=True) as tx:
            assert TurnStatus.FAILED == (await tx.turns.get(turn.id)).status
            assert None is await tx.turns.keyed("k")

    async def test_closing_what_never_came_leaves_nothing(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        other = await accept(store, alice, new_turn(conversation.id))
        for conversation_id in (conversation.id, new_id()):
            turn = new_turn(conversation_id)
            with pytest.raises(ConversationNotFound):
                await close(store, alice, turn)
            async with store.begin(alice, read_only=True) as tx:
                with pytest.raises(TurnNotFound):
                    await tx.turns.get(turn.id)

        await close(store, alice, other)
        with pytest.raises(ConversationNotFound):
            await close(store, alice, new_turn(conversation.id))
        await accept(store, alice, new_turn(conversation.id))


class TestLease:
    async def test_a_live_workers_turn_is_left_alone(self, store: Store, alice: str):
        worker_id = new_id()
        await store.renew(worker_id)
        conversation = await make_conversation(store, alice)
        await accept(store, alice, new_turn(conversation.id, worker_id=worker_id))

        async with store.begin(alice) as tx:
            await tx.turns.close_abandoned(conversation.id, PROBLEM)

        async with store.begin(alice) as tx:
            assert None is not await tx.turns.running(conversation.id)

    async def test_a_worker_that_left_has_abandoned_its_turns(
        self, store: Store, alice: str, bob: str
    ):
        worker_id = new_id()
        await store.renew(worker_id)
        await store.renew(worker_id)
        turns = {}
        for user_id in (alice, bob):
            conversation = await make_conversation(store, user_id)
            turns[user_id] = await accept(
                store, user_id, new_turn(conversation.id, worker_id=worker_id)
            )
        await store.forget(worker_id)

        async with store.begin(alice) as tx:
            await tx.turns.close_abandoned(turns[alice].conversation_id, PROBLEM)
            closed = await tx.turns.get(turns[alice].id)
        async with store.begin(bob) as tx:
            untouched = await tx.turns.get(turns[bob].id)

        assert (TurnStatus.FAILED, PROBLEM) == (closed.status, closed.problem)
        assert TurnStatus.RUNNING == untouched.status

    async def test_sweeping_the_dead_spares_the_living(self, store: Store, alice: str):
        worker_id = new_id()
        await store.renew(worker_id)
        await store.forget_dead()
        conversation = await make_conversation(store, alice)
        await accept(store, alice, new_turn(conversation.id, worker_id=worker_id))

        async with store.begin(alice) as tx:
            await tx.turns.close_abandoned(conversation.id, PROBLEM)
            assert None is not await tx.turns.running(conversation.id)


class TestIsolation:
    async def test_another_users_turn_is_as_missing_as_nobodys(
        self, store: Store, alice: str, bob: str
    ):
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id))

        async with store.begin(bob) as tx:
            with pytest.raises(TurnNotFound):
                await tx.turns.get(turn.id)
            assert None is await tx.turns.running(conversation.id)
            with pytest.raises(ConversationNotFound):
                await tx.turns.close(turn, TurnStatus.FAILED, PROBLEM)
        with pytest.raises(ConversationNotFound):
            async with store.begin(bob) as tx:
                await tx.turns.record(turn, 0, new_reply(), None)

        async with store.begin(alice) as tx:
            assert TurnStatus.RUNNING == (await tx.turns.get(turn.id)).status
