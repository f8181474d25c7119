"""`if_busy`: one running turn a conversation, and others that wait for it."""

import asyncio

import pytest

from parley.core.errors import ConversationNotFound, Draining, TurnInProgress
from parley.crud.ports import Store
from parley.services.turns import acceptance
from tests.factories import make_conversation, messages_of
from tests.responders import Gated, Scripted
from tests.turn_process import Process


class TestWait:
    async def test_its_turn_comes_and_it_has_read_what_was_said_until_then(
        self, store: Store, alice: str
    ):
        first, second = Gated("first "), Scripted("ok")
        here, there = Process(store, first), Process(store, second)
        started = await here.begin(alice)
        await first.asked.wait()
        waiting = asyncio.create_task(
            there.say(alice, "late", started.conversation_id, if_busy="wait")
        )
        with pytest.raises(TurnInProgress):
            await there.say(alice, "not at all", started.conversation_id)
        first.gate.set()

        assert 3 == (await waiting).message.position
        assert ["hello", "first re: hello", "late"] == [m.content for m in second.prompts[0]]

    async def test_nobody_waits_for_another_users_turn(self, store: Store, alice: str, bob: str):
        """How long it took would tell that there is one."""
        model = Gated("first ")
        process = Process(store, model)
        started = await process.begin(alice)
        await model.asked.wait()

        with pytest.raises(ConversationNotFound):
            await process.say(bob, "hello", started.conversation_id, if_busy="wait")
        assert not model.was_closed
        model.gate.set()
        await process.idle()

    async def test_not_for_ever(self, store: Store, alice: str):
        model = Gated("first ")
        process = Process(store, model, turn_wait_seconds=0.05)
        started = await process.begin(alice)
        await model.asked.wait()

        waiters = [
            process.say(alice, "late", started.conversation_id, if_busy="wait") for _ in range(3)
        ]
        outcomes = await asyncio.gather(*waiters, return_exceptions=True)
        assert [TurnInProgress] * 3 == [type(outcome) for outcome in outcomes]
        model.gate.set()
        await process.idle()

    async def test_not_when_the_process_is_leaving(
        self, store: Store, alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        """What would begin now would be ended at once."""
        # It goes by itself, and need not be cancelled.
        monkeypatch.setattr("parley.services.turns.runner.LAST_WORDS_SECONDS", 600)
        model = Gated("first ")
        busy, leaving = Process(store, model), Process(store, Scripted("ok"))
        started = await busy.begin(alice)
        await model.asked.wait()
        waiting = asyncio.create_task(
            leaving.say(alice, "late", started.conversation_id, if_busy="wait")
        )
        while not leaving.runner.is_busy:
            await asyncio.sleep(0)
        await leaving.runner.stop(grace_seconds=0)

        with pytest.raises(Draining) as refused:
            await waiting
        assert "turn_id" not in refused.value.members
        model.gate.set()
        await busy.idle()

    async def test_many_writers_of_two_replicas_leave_a_conversation_whole(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        replicas = [Process(store, Scripted("o", "k"), turn_wait_seconds=110) for _ in range(2)]

        replies = await asyncio.gather(
            *(
                replicas[number % 2].say(
                    alice, f"message {number}", conversation.id, if_busy="wait"
                )
                for number in range(30)
            )
        )

        shown = await messages_of(store, alice, conversation.id)
        assert [*range(1, 61)] == [message.position for message in shown]
        by_position = {reply.message.position: reply for reply in replies}
        assert [
            message
            for position in sorted(by_position)
            for message in (by_position[position].message, by_position[position].reply)
        ] == shown

    async def test_those_of_one_process_come_in_their_order(self, store: Store, alice: str):
        model = Gated("first ")
        process = Process(store, model)
        started = await process.begin(alice)
        await model.asked.wait()
        waiters = []
        for number in range(5):
            waiters.append(
                asyncio.create_task(
                    process.say(alice, str(number), started.conversation_id, if_busy="wait")
                )
            )
            await asyncio.sleep(0)
        model.gate.set()
        replies = await asyncio.gather(*waiters)

        assert [3, 5, 7, 9, 11] == [reply.message.position for reply in replies]

    async def test_those_of_one_process_never_wait_longer_than_for_the_one_before(
        self, store: Store, alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        """However short its turn is: who looked while it ended would miss that, and look again late."""
        conversation = await make_conversation(store, alice)
        process = Process(store, Scripted("ok"), turn_wait_seconds=60)
        monkeypatch.setattr(acceptance, "LOOK_SECONDS", 60)

        replies = await asyncio.gather(
            *(
                process.say(alice, str(number), conversation.id, key=str(number), if_busy="wait")
                for number in range(20)
            )
        )

        assert [*range(1, 41, 2)] == sorted(reply.message.position for reply in replies)

    async def test_one_turn_at_a_time_makes_no_difference_to_a_new_conversation(
        self, store: Store, alice: str
    ):
        process = Process(store, Scripted("ok"))

        assert 1 == (await process.say(alice, "hello", if_busy="wait")).message.position
