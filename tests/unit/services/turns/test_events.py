import asyncio
import traceback
from datetime import UTC, datetime

import pytest

from parley.core.errors import ModelError, TurnInProgress
from parley.core.ids import new_id
from parley.schemas.conversations import Message, MessageStatus, Role
from parley.schemas.turns import ChatReply, Delta, TurnStarted
from parley.services.turns import events as module
from parley.services.turns.events import END_SOMEWHERE, TurnEvents, problem_of
from tests.turn_process import events_of

TURN_ID, CONVERSATION_ID = new_id(), new_id()
STARTED = TurnStarted(turn_id=TURN_ID, conversation_id=CONVERSATION_ID)


def message(role: Role, content: str) -> Message:
    return Message(
        id=new_id(),
        conversation_id=CONVERSATION_ID,
        position=1,
        role=role,
        content=content,
        status=MessageStatus.COMPLETE,
        created_at=datetime.now(UTC),
    )


def reply(content: str) -> ChatReply:
    return ChatReply(
        turn_id=TURN_ID,
        conversation_id=CONVERSATION_ID,
        message=message(Role.USER, "hello"),
        reply=message(Role.ASSISTANT, content),
    )


@pytest.fixture
def events() -> TurnEvents:
    events = TurnEvents()
    events.start(STARTED)
    return events


class TestRead:
    async def test_events_count_from_one_and_the_end_is_the_last(self, events: TurnEvents):
        events.say("one ", "two")
        events.finish(reply("one two"))

        assert [
            (1, STARTED),
            (2, Delta(text="one ")),
            (3, Delta(text="two")),
            (4, events.end),
        ] == await events_of(events)

    @pytest.mark.parametrize("after", range(5))
    async def test_from_any_event_on_the_rest_is_the_same(self, events: TurnEvents, after: int):
        events.say("one ", "two")
        events.finish(reply("one two"))

        assert (await events_of(events))[after:] == await events_of(events, after)

    async def test_who_has_had_the_end_gets_nothing(self, events: TurnEvents):
        events.say("one")
        events.finish(reply("one"))

        assert [True, True, True, False, False] == [events.has_more(n) for n in (0, 1, 2, 3, 9)]
        assert [] == await events_of(events, 9)

    async def test_a_failure_is_told_as_a_problem(self, events: TurnEvents):
        error = ModelError("It broke off.")
        events.say("half")
        events.fail(error, "half")

        assert (3, problem_of(error)) == (await events_of(events))[-1]

    async def test_readers_hear_what_is_said_while_they_wait(self, events: TurnEvents):
        reading = events.read()
        assert [(1, STARTED)] == await anext(reading)
        waiting = asyncio.ensure_future(anext(reading))
        await asyncio.sleep(0)
        events.say("one")

        assert [(2, Delta(text="one"))] == await waiting
        waiting = asyncio.ensure_future(anext(reading))
        await asyncio.sleep(0)
        events.finish(reply("one"))
        assert [(3, events.end)] == await waiting

    async def test_who_reads_at_once_lets_others_have_theirs(
        self, events: TurnEvents, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(module, "AT_ONCE_MAX", 1)
        events.say(*"abcdef")
        events.finish(reply("abcdef"))
        order: list[str] = []

        async def read(name: str) -> None:
            nonlocal order
            async for _ in events.read():
                order += [name]

        await asyncio.gather(read("first"), read("second"))

        assert order != sorted(order)

    async def test_who_is_slow_gets_several_at_once_and_not_all(
        self, events: TurnEvents, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(module, "AT_ONCE_MAX", 2)
        events.say("a", "b", "c")
        events.finish(reply("abc"))

        assert [1, 2, 1, 1] == [len(several) async for several in events.read()]

    async def test_a_refusal_is_raised_before_any_event(self):
        events = TurnEvents()
        events.fail(TurnInProgress())

        with pytest.raises(TurnInProgress):
            await events_of(events)
        with pytest.raises(TurnInProgress):
            await events.outcome()


class TestLost:
    """Pieces that never came are in the recorded reply."""

    async def test_what_is_missing_is_one_piece(self, events: TurnEvents):
        events.say("one ")
        events.finish(reply("one two three"))

        assert ["one ", "two three"] == [
            event.text for _, event in await events_of(events) if isinstance(event, Delta)
        ]
        assert [END_SOMEWHERE - 1, END_SOMEWHERE] == [n for n, _ in await events_of(events, 2)]
        assert [(END_SOMEWHERE, events.end)] == await events_of(events, END_SOMEWHERE - 1)

    async def test_who_has_had_more_than_is_known_gets_the_end_alone_and_once(
        self, events: TurnEvents
    ):
        """It has the whole reply in it; nothing is said twice."""
        events.finish(reply("one two three"))

        ((number, end),) = await events_of(events, 7)
        assert (events.end, True) == (end, number > 7)
        assert [] == await events_of(events, number)
        assert not events.has_more(number)

    async def test_who_was_told_it_in_one_piece_is_told_the_end_where_all_is_there(
        self, events: TurnEvents
    ):
        """The log of one process may be lost, and another's not."""
        events.say("one ", "two")
        events.finish(reply("one two"))

        assert [(END_SOMEWHERE, events.end)] == await events_of(events, END_SOMEWHERE - 1)
        assert not events.has_more(END_SOMEWHERE)

    async def test_of_a_failed_turn_too(self, events: TurnEvents):
        events.fail(ModelError(), "half")

        assert [STARTED, Delta(text="half"), problem_of(ModelError())] == [
            event for _, event in await events_of(events)
        ]


class TestOutcome:
    @pytest.mark.parametrize("wait", [TurnEvents.outcome, TurnEvents.started])
    async def test_an_error_does_not_gather_the_frames_of_all_who_meet_it(self, wait):
        events, error = TurnEvents(), TurnInProgress()
        events.fail(error)
        frames = []
        for _ in range(3):
            with pytest.raises(TurnInProgress):
                await wait(events)
            frames.append(len([*traceback.walk_tb(error.__traceback__)]))

        assert frames[0] == frames[-1]
