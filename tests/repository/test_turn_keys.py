"""Idempotency keys, and turns that take another's place or are asked to end."""

from uuid import UUID

import pytest

from parley.core.errors import TurnInProgress, TurnNotFound
from parley.core.ids import new_id
from parley.crud.ports import Store
from parley.crud.sql.turns import SqlTurns
from parley.schemas.conversations import MessageStatus
from parley.schemas.turns import KeyedTurn, Turn, TurnStatus
from tests.databases import DatabaseUrls
from tests.factories import (
    PROBLEM,
    accept,
    make_conversation,
    messages_of,
    new_reply,
    new_turn,
    record,
)
from tests.stores import patient_store


async def keyed(store: Store, user_id: str, key: str) -> KeyedTurn | None:
    async with store.begin(user_id, read_only=True) as tx:
        return await tx.turns.keyed(key)


class TestKey:
    async def test_a_turn_is_found_by_its_key_with_what_was_asked(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        turn = await accept(
            store, alice, new_turn(conversation.id, idempotency_key="k", fingerprint="f")
        )

        found = await keyed(store, alice, "k")

        assert found is not None
        assert (turn.id, TurnStatus.RUNNING, "f") == (
            found.turn.id,
            found.turn.status,
            found.fingerprint,
        )
        assert None is await keyed(store, alice, "K")

    async def test_a_key_is_one_turns_in_whichever_conversation(self, store: Store, alice: str):
        first, second = [await make_conversation(store, alice) for _ in range(2)]
        await accept(store, alice, new_turn(first.id, idempotency_key="k"))

        with pytest.raises(TurnInProgress):
            await accept(store, alice, new_turn(second.id, idempotency_key="k"))

    async def test_a_key_is_its_users_alone(self, store: Store, alice: str, bob: str):
        for user_id in (alice, bob):
            conversation = await make_conversation(store, user_id)
            await accept(store, user_id, new_turn(conversation.id, idempotency_key="k"))
        await record(store, alice, (await make_conversation(store, alice)).id)

        assert None is await keyed(store, f"{alice}x", "k")

    async def test_a_recorded_turn_keeps_it_and_one_without_messages_sets_it_free(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        kept = await record(
            store, alice, conversation.id, "x", MessageStatus.FAILED, idempotency_key="kept"
        )
        lost = await accept(store, alice, new_turn(conversation.id, idempotency_key="lost"))
        async with store.begin(alice) as tx:
            await tx.turns.close(lost, TurnStatus.CANCELLED, PROBLEM)

        found = await keyed(store, alice, "kept")
        assert found is not None
        assert (kept.turn_id, kept.reply) == (found.turn.id, found.turn.reply)
        assert None is await keyed(store, alice, "lost")
        async with store.begin(alice, read_only=True) as tx:
            assert TurnStatus.CANCELLED == (await tx.turns.get(lost.id)).status

    async def test_that_of_a_dead_workers_turn_is_free_once_it_is_closed(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        await accept(store, alice, new_turn(conversation.id, idempotency_key="k"))
        async with store.begin(alice) as tx:
            assert await tx.turns.close_abandoned(conversation.id, PROBLEM)

        await accept(store, alice, new_turn(conversation.id, idempotency_key="k"))


class TestRecorded:
    async def test_both_messages_are_read_back_as_they_were_recorded(
        self, store: Store, alice: str, bob: str
    ):
        conversation = await make_conversation(store, alice)
        recorded = await record(store, alice, conversation.id)

        async with store.begin(alice, read_only=True) as tx:
            assert recorded == await tx.turns.recorded(recorded.turn_id)
        async with store.begin(bob, read_only=True) as tx:
            assert None is await tx.turns.recorded(recorded.turn_id)

    async def test_what_was_counted_is_kept(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id))
        reply = new_reply().model_copy(update={"usage": {"prompt_tokens": 2**53 - 1}})
        async with store.begin(alice) as tx:
            recorded = await tx.turns.record(turn, 0, reply, None)

        async with store.begin(alice, read_only=True) as tx:
            assert recorded == await tx.turns.recorded(turn.id)
        assert {"prompt_tokens": 2**53 - 1} == recorded.reply.usage

    async def test_a_turn_without_messages_has_none(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id))

        async with store.begin(alice, read_only=True) as tx:
            assert None is await tx.turns.recorded(turn.id)


class TestReplace:
    async def test_the_new_one_takes_the_positions_and_the_old_one_is_kept(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        await record(store, alice, conversation.id, "first")
        old = await record(store, alice, conversation.id, "old")
        new = await record(store, alice, conversation.id, "new", replaces=old.turn_id)

        shown = await messages_of(store, alice, conversation.id)
        assert ["first", "re: first", "new", "re: new"] == [m.content for m in shown]
        assert [1, 2, 3, 4] == [m.position for m in shown]
        assert [new.message, new.reply] == shown[2:]
        async with store.begin(alice, read_only=True) as tx:
            assert 4 == (await tx.conversations.get(conversation.id)).length
            assert old == await tx.turns.recorded(old.turn_id)
            last = await tx.turns.last(conversation.id)
        assert last is not None
        assert new.turn_id == last.id

    async def test_one_that_failed_is_hidden_and_the_old_one_stays(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        old = await record(store, alice, conversation.id, "old")
        failed = await record(
            store, alice, conversation.id, "new", MessageStatus.FAILED, replaces=old.turn_id
        )

        assert [old.message, old.reply] == await messages_of(store, alice, conversation.id)
        async with store.begin(alice, read_only=True) as tx:
            assert failed == await tx.turns.recorded(failed.turn_id)
            assert TurnStatus.FAILED == (await tx.turns.get(failed.turn_id)).status
            assert 2 == (await tx.conversations.get(conversation.id)).length

    async def test_recording_it_again_is_the_same_as_once(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        old = await record(store, alice, conversation.id, "old")
        turn = await accept(store, alice, new_turn(conversation.id, replaces=old.turn_id))
        reply = new_reply()
        recorded = []
        for _ in range(2):
            async with store.begin(alice) as tx:
                recorded.append(await tx.turns.record(turn, 2, reply, None))

        assert recorded[0] == recorded[1]
        assert 2 == len(await messages_of(store, alice, conversation.id))

    async def test_the_next_turn_follows_and_a_replaced_one_is_replaced_again(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        replaced = (await record(store, alice, conversation.id, "0")).turn_id
        for number in range(1, 4):
            reply = await record(store, alice, conversation.id, str(number), replaces=replaced)
            replaced = reply.turn_id
        await record(store, alice, conversation.id, "next")

        shown = await messages_of(store, alice, conversation.id)
        assert [(1, "3"), (3, "next")] == [(m.position, m.content) for m in shown[::2]]

    async def test_the_last_turn_is_the_newest_that_is_shown(
        self, store: Store, alice: str, bob: str
    ):
        conversation = await make_conversation(store, alice)
        async with store.begin(alice, read_only=True) as tx:
            assert None is await tx.turns.last(conversation.id)
        await record(store, alice, conversation.id, "first")
        second = await record(store, alice, conversation.id, "second", MessageStatus.FAILED)
        await accept(store, alice, new_turn(conversation.id))

        async with store.begin(alice, read_only=True) as tx:
            last = await tx.turns.last(conversation.id)
        assert last is not None
        assert (second.turn_id, "second") == (last.id, last.message.content)
        async with store.begin(bob, read_only=True) as tx:
            assert None is await tx.turns.last(conversation.id)


class TestAbandoned:
    async def test_a_running_turn_is_as_soon_as_its_workers_lease_has_run_out(
        self, store: Store, alice: str, bob: str
    ):
        worker_id = new_id()
        await store.renew(worker_id)
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id, worker_id=worker_id))

        async def is_abandoned(user_id: str) -> bool:
            async with store.begin(user_id, read_only=True) as tx:
                return await tx.turns.is_abandoned(turn.id)

        assert not await is_abandoned(alice)
        await store.forget(worker_id)
        assert await is_abandoned(alice)
        assert not await is_abandoned(bob)
        async with store.begin(alice) as tx:
            await tx.turns.close(turn, TurnStatus.FAILED, PROBLEM)
        assert not await is_abandoned(alice)


class TestAge:
    async def test_it_counts_from_the_end_by_the_stores_clock(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        running = await accept(store, alice, new_turn(conversation.id))

        async def age() -> float:
            async with store.begin(alice, read_only=True) as tx:
                return await tx.turns.seconds_since_end(running.id)

        assert 0 == await age()
        async with store.begin(alice) as tx:
            await tx.turns.close(running, TurnStatus.FAILED, PROBLEM)
        first = await age()
        assert 0 <= first < 60
        while await age() == first:
            pass


class TestCancel:
    async def test_a_running_turn_is_to_end_and_its_worker_is_told_to_look(
        self, store: Store, alice: str
    ):
        worker_id = new_id()
        await store.renew(worker_id)
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id, worker_id=worker_id))
        assert 0 == await store.cancels(worker_id)

        async with store.begin(alice) as tx:
            asked = await tx.turns.request_cancel(turn.id)

        assert (turn.id, TurnStatus.RUNNING) == (asked.id, asked.status)
        assert 1 == await store.cancels(worker_id)
        async with store.begin(alice) as tx:
            await tx.turns.request_cancel(turn.id)
        assert 1 == await store.cancels(worker_id)
        other = await make_conversation(store, alice)
        wanted = await accept(store, alice, new_turn(other.id, worker_id=worker_id))
        async with store.begin(alice, read_only=True) as tx:
            assert [wanted.id] == await tx.turns.wanted(worker_id)
            assert [] == await tx.turns.wanted(new_id())

    async def test_one_that_is_accepted_in_the_midst_of_it_is_not_told_as_asked_to_end(
        self, postgres: DatabaseUrls, alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        """As PostgreSQL has it: a statement sees what was committed since the one before."""
        store, get = patient_store(postgres.api), SqlTurns.get
        conversation = await make_conversation(store, alice)
        turn = new_turn(conversation.id)

        async def get_once_accepted(self: SqlTurns, turn_id: UUID) -> Turn:
            monkeypatch.setattr(SqlTurns, "get", get)
            await accept(store, alice, turn)
            return await get(self, turn_id)

        monkeypatch.setattr(SqlTurns, "get", get_once_accepted)
        async with store.begin(alice) as tx:
            with pytest.raises(TurnNotFound):
                await tx.turns.request_cancel(turn.id)
        await store.close()

    async def test_deleting_its_conversation_tells_its_worker_too(self, store: Store, alice: str):
        worker_id = new_id()
        await store.renew(worker_id)
        done, running, other = [await make_conversation(store, alice) for _ in range(3)]
        await record(store, alice, done.id, worker_id=worker_id)
        for conversation in (running, other):
            await accept(store, alice, new_turn(conversation.id, worker_id=worker_id))

        counts = []
        for conversation in (done, running):
            async with store.begin(alice) as tx:
                await tx.conversations.delete(conversation.id)
            counts.append(await store.cancels(worker_id))

        assert [0, 1] == counts

    async def test_deleting_their_account_tells_all_workers(self, store: Store, alice: str):
        worker_ids = [new_id() for _ in range(3)]
        for worker_id in worker_ids:
            await store.renew(worker_id)
            conversation = await make_conversation(store, alice)
            await accept(store, alice, new_turn(conversation.id, worker_id=worker_id))

        async with store.begin(alice) as tx:
            await tx.accounts.delete()

        assert [1, 1, 1] == [await store.cancels(worker_id) for worker_id in worker_ids]

    async def test_staying_alive_forgets_nothing_and_leaving_forgets_all(
        self, store: Store, alice: str
    ):
        worker_id = new_id()
        await store.renew(worker_id)
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id, worker_id=worker_id))
        async with store.begin(alice) as tx:
            await tx.turns.request_cancel(turn.id)

        await store.renew(worker_id)
        assert 1 == await store.cancels(worker_id)
        await store.forget(worker_id)
        assert 0 == await store.cancels(worker_id)

    async def test_one_that_has_ended_stays_as_it_is(self, store: Store, alice: str):
        worker_id = new_id()
        await store.renew(worker_id)
        conversation = await make_conversation(store, alice)
        recorded = await record(store, alice, conversation.id, worker_id=worker_id)

        async with store.begin(alice) as tx:
            asked = await tx.turns.request_cancel(recorded.turn_id)

        assert (TurnStatus.COMPLETE, recorded.reply) == (asked.status, asked.reply)
        assert 0 == await store.cancels(worker_id)
        async with store.begin(alice, read_only=True) as tx:
            assert [] == await tx.turns.wanted(worker_id)

    async def test_another_users_is_as_missing_as_nobodys(
        self, store: Store, alice: str, bob: str
    ):
        worker_id = new_id()
        await store.renew(worker_id)
        conversation = await make_conversation(store, bob)
        turn = await accept(store, bob, new_turn(conversation.id, worker_id=worker_id))

        for missing in (turn.id, new_id()):
            with pytest.raises(TurnNotFound):
                async with store.begin(alice) as tx:
                    await tx.turns.request_cancel(missing)
        assert 0 == await store.cancels(worker_id)
        async with store.begin(alice, read_only=True) as tx:
            assert [] == await tx.turns.wanted(worker_id)
