"""The same key, the same turn: joined while it runs, replayed when it is done, and never run twice."""

import asyncio

import pytest
from httpx import AsyncClient

from parley.core.errors import (
    IdempotencyKeyReused,
    ModelError,
    ModelNotOffered,
    ModelUnavailable,
    TurnInProgress,
)
from parley.core.ids import new_id
from parley.core.settings import Settings
from parley.crud.ports import Store
from parley.schemas.turns import ChatReply
from parley.services.turns.starter import KEPT
from tests.conftest import SECRET
from tests.events import parse
from tests.factories import make_conversation, messages_of
from tests.responders import Gated, Scripted
from tests.stores import Around, nothing
from tests.turn_process import Process, events_of, turn_of


class TestSameKey:
    async def test_of_fifty_at_once_one_turn_is_run_and_all_have_its_answer(
        self, store: Store, alice: str
    ):
        model = Scripted("once ", "only")
        process = Process(store, model)

        replies = await asyncio.gather(*(process.say(alice, "hello", key="k") for _ in range(50)))

        assert 1 == len({reply.model_dump_json() for reply in replies})
        assert 1 == len(model.prompts)
        assert 1 == process.admission.begun
        assert [replies[0].message, replies[0].reply] == await messages_of(
            store, alice, replies[0].conversation_id
        )

    @pytest.mark.parametrize("busy", ["reject", "wait"])
    async def test_over_two_replicas_too(self, store: Store, alice: str, busy: str):
        conversation = await make_conversation(store, alice)
        model = Scripted("once")
        replicas = [Process(store, model) for _ in range(2)]

        replies = await asyncio.gather(
            *(
                replica.say(alice, "hello", conversation.id, key="k", if_busy=busy)
                for replica in replicas * 10
            )
        )

        assert 1 == len({reply.model_dump_json() for reply in replies})
        assert 1 == len(model.prompts)

    async def test_a_running_turn_is_joined_from_its_first_event_on(
        self, store: Store, alice: str
    ):
        model = Gated("first ")
        process = Process(store, model)
        begun = await process.ask(alice, key="k")
        await model.asked.wait()
        joined = await process.ask(alice, key="k")
        reading = [asyncio.create_task(events_of(r.events)) for r in (begun, joined)]
        model.gate.set()

        first, second = await asyncio.gather(*reading)
        assert first == second
        assert not joined.is_replayed
        assert (1, 2) == (process.admission.begun, process.admission.keyed)

    async def test_one_that_is_done_is_replayed_and_costs_no_message(
        self, store: Store, alice: str
    ):
        process, elsewhere = Process(store, Scripted("ok")), Process(store, Scripted("other"))
        said = await process.say(alice, "hello", key="k")
        for replica in (process, elsewhere):
            again = await replica.ask(alice, key="k")
            assert (said, True) == (await again.events.outcome(), again.is_replayed)

        assert (1, 0) == (process.admission.begun, elsewhere.admission.begun)

    async def test_nobody_is_sent_away_for_coming_at_the_same_time(self, store: Store, alice: str):
        """Waiting for the one who begins the turn is not waiting for another turn."""
        process = Process(store, Scripted("ok"), turn_wait_seconds=0)

        replies = await asyncio.gather(*(process.say(alice, "hello", key="k") for _ in range(10)))

        assert 1 == len({reply.turn_id for reply in replies})

    async def test_one_is_replayed_whose_model_is_not_offered_any_more(
        self, store: Store, alice: str
    ):
        before = Process(store, Scripted("ok"), models="small,large")
        after = Process(store, Scripted("other"), models="small")
        said = await before.say(alice, "hello", key="k", model="large")

        assert said == await after.say(alice, "hello", key="k", model="large")
        with pytest.raises(ModelNotOffered):
            await after.ask(alice, "hello", key="another", model="large")
        assert 0 == after.admission.begun

    async def test_one_that_broke_off_says_so_again(self, store: Store, alice: str):
        process = Process(store, Scripted("half", error=ModelError("It broke off.")))
        told = []
        for _ in range(2):
            with pytest.raises(ModelError) as refused:
                await process.say(alice, "hello", key="k")
            told.append(refused.value.members)

        assert told[0] == told[1]
        assert KEPT == told[0]["detail"]
        assert 1 == process.admission.begun

    async def test_a_key_is_its_users_own(self, store: Store, alice: str, bob: str):
        process = Process(store, Scripted("ok"))
        hers = await process.say(alice, "hello", key="k")
        his = await process.say(bob, "another thing", key="k")

        assert hers.turn_id != his.turn_id

    async def test_without_a_key_each_is_a_turn(self, store: Store, alice: str):
        process = Process(store, Scripted("ok"))

        assert (await process.say(alice, "hello")).turn_id != (
            await process.say(alice, "hello")
        ).turn_id


class TestFreeAgain:
    async def test_after_a_turn_without_messages_the_same_key_begins_anew(
        self, store: Store, alice: str
    ):
        model = Scripted(error=ModelUnavailable("It is down."))
        process = Process(store, model)
        with pytest.raises(ModelUnavailable):
            await process.say(alice, "hello", key="k")
        model.pieces, model.error = ("fine",), None

        assert "fine" == (await process.say(alice, "hello", key="k")).reply.content

    async def test_after_a_process_that_died_too(self, store: Store, alice: str):
        model = Gated("half")
        dead, alive = Process(store, model), Process(store, Scripted("fine"))
        begun = await (await dead.ask(alice, key="k")).events.started()
        await model.asked.wait()
        await store.forget(dead.worker.id)

        assert "fine" == (await alive.say(alice, "hello", key="k")).reply.content
        lost = await turn_of(store, alice, begun.turn_id)
        assert ("failed", "hello") == (lost.status, lost.message.content)
        model.gate.set()
        await dead.idle()

    async def test_where_its_turn_is_deleted_while_it_is_looked_up(self, store: Store, alice: str):
        around, model = Around(store), Gated("half")
        here, there = Process(store, model), Process(around, Scripted("fine"))
        started = await (await here.ask(alice, key="k")).events.started()

        async def delete_it(*_: object) -> None:
            around.behind = nothing
            async with store.begin(alice) as tx:
                await tx.conversations.delete(started.conversation_id)

        around.behind = delete_it
        assert "fine" == (await there.say(alice, "hello", key="k")).reply.content
        model.gate.set()
        await here.idle()

    async def test_after_a_refusal_too(self, store: Store, alice: str):
        model = Gated("first ")
        process = Process(store, model)
        started = await process.begin(alice)
        await model.asked.wait()
        for _ in range(2):
            with pytest.raises(TurnInProgress):
                await process.ask(alice, "mine", started.conversation_id, key="k")
        model.gate.set()
        await process.idle()

        reply = await process.say(alice, "mine", started.conversation_id, key="k")
        assert isinstance(reply, ChatReply)


class TestAnotherRequest:
    @pytest.mark.parametrize(
        "changes",
        [{"message": "other"}, {"model": "echo"}, {"conversation_id": new_id()}],
        ids=lambda changes: next(iter(changes)),
    )
    async def test_with_the_key_of_one_is_refused(self, store: Store, alice: str, changes):
        process = Process(store, Scripted("ok"))
        await process.say(alice, "hello", key="k")

        with pytest.raises(IdempotencyKeyReused):
            await process.ask(alice, **{"message": "hello", "key": "k"} | changes)
        assert 1 == process.admission.begun

    async def test_how_it_is_answered_makes_no_difference(self, store: Store, alice: str):
        process = Process(store, Scripted("ok"))
        said = await process.say(alice, "hello", key="k")
        again = await process.ask(alice, key="k", stream=True, if_busy="wait")

        assert said == await again.events.outcome()

    async def test_that_replaces_is_another(self, store: Store, alice: str):
        process = Process(store, Scripted("ok"))
        conversation_id = (await process.say(alice, "hello")).conversation_id
        await process.say(alice, "hello", conversation_id, key="k")

        with pytest.raises(IdempotencyKeyReused):
            await process.ask(alice, "hello", conversation_id, key="k", replace_last=True)


@pytest.fixture
def send(client: AsyncClient, alice: str, bearer):
    async def send(key: str, message: str = "hello", **body):
        headers = bearer(alice) | {"Idempotency-Key": key}
        return await client.post(
            "/api/v1/me/chat", json={"message": message, **body}, headers=headers
        )

    return send


class TestHttp:
    async def test_a_replay_says_that_it_is_one(self, send):
        first, again = await send("k"), await send("k")

        assert (None, "true") == tuple(
            response.headers.get("Idempotency-Replayed") for response in (first, again)
        )
        assert first.json() == again.json()
        assert "RateLimit" in first.headers
        assert "RateLimit" not in again.headers

    async def test_a_replay_may_be_had_as_events(self, send):
        first = await send("k")
        again = await send("k", stream=True)

        assert "true" == again.headers["Idempotency-Replayed"]
        assert first.json() == parse(again.text)[-1].data

    async def test_another_request_with_it_is_422(self, send):
        await send("k")
        refused = await send("k", "other")

        assert (422, "idempotency-key-reused") == (refused.status_code, refused.json()["code"])


class TestManyAtOnce:
    @pytest.fixture
    def responder(self) -> Gated:
        return Gated("first ")

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(auth_secret=SECRET, streams_max_per_user=1)

    async def test_so_many_may_wait_for_one_turn(self, send, responder: Gated):
        """A retry takes no slot, which the turn has; there is a bound all the same."""
        sent = [asyncio.create_task(send("k")) for _ in range(6)]
        (refused,), waiting = await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
        responder.gate.set()
        answered = await asyncio.gather(*waiting)

        problem = refused.result()
        assert (429, "rate-limited") == (problem.status_code, problem.json()["code"])
        assert [200] * 5 == [response.status_code for response in answered]
        assert 200 == (await send("k")).status_code
