"""Regenerating a reply, and replacing the last message."""

import asyncio
from uuid import UUID

import pytest
from httpx import AsyncClient

from parley.core.errors import (
    ConversationNotFound,
    ModelError,
    ModelUnavailable,
    NothingToRegenerate,
    TurnInProgress,
)
from parley.core.ids import new_id
from parley.crud.ports import Store
from parley.schemas.conversations import MessageStatus
from parley.services.responders.base import PromptMessage
from parley.services.turns.starter import STAYS
from tests.factories import make_conversation, messages_of
from tests.responders import Gated, Scripted
from tests.turn_process import Process


async def contents(store: Store, user_id: str, conversation_id) -> list[str]:
    return [message.content for message in await messages_of(store, user_id, conversation_id)]


class TestRegenerate:
    async def test_the_last_message_is_answered_anew_in_its_place(self, store: Store, alice: str):
        model = Scripted("old")
        process = Process(store, model)
        first = await process.say(alice, "first")
        await process.say(alice, "second", first.conversation_id)
        model.pieces = ("new",)

        reply = await process.regenerate(alice, first.conversation_id)

        assert (3, 4) == (reply.message.position, reply.reply.position)
        assert ["first", "old", "second", "new"] == await contents(
            store, alice, first.conversation_id
        )
        # As it was asked the first time: what is replaced is not shown.
        assert model.prompts[1] == model.prompts[2]
        assert ["first", "old", "second"] == [m.content for m in model.prompts[2]]

    async def test_the_next_message_follows_the_new_reply(self, store: Store, alice: str):
        model = Scripted("old")
        process = Process(store, model)
        conversation_id = (await process.say(alice, "hello")).conversation_id
        for number in range(3):
            model.pieces = (f"new {number}",)
            await process.regenerate(alice, conversation_id)
        await process.say(alice, "next", conversation_id)

        assert ["hello", "new 2", "next"] == [m.content for m in model.prompts[-1]]
        shown = await messages_of(store, alice, conversation_id)
        assert [1, 2, 3, 4] == [message.position for message in shown]

    @pytest.mark.parametrize(
        ("pieces", "error", "detail"),
        [
            ((), ModelUnavailable("It is down."), "It is down."),
            (("half",), ModelError("It broke off."), STAYS),
        ],
    )
    async def test_one_that_fails_leaves_the_old_reply_in_place(
        self, store: Store, alice: str, pieces: tuple[str, ...], error: Exception, detail: str
    ):
        model = Scripted("old")
        process = Process(store, model)
        conversation_id = (await process.say(alice, "hello")).conversation_id
        model.pieces, model.error = pieces, error
        with pytest.raises(type(error)) as failed:
            await process.regenerate(alice, conversation_id)

        assert ["hello", "old"] == await contents(store, alice, conversation_id)
        turn = await process.turns.get(alice, UUID(failed.value.extensions["turn_id"]))
        assert detail == failed.value.members["detail"]
        assert (pieces[0] if pieces else None) == (turn.reply and turn.reply.content)
        model.pieces, model.error = ("new",), None
        await process.regenerate(alice, conversation_id)
        assert ["hello", "new"] == await contents(store, alice, conversation_id)

    async def test_one_that_is_cancelled_takes_the_place_with_what_it_has(
        self, store: Store, alice: str
    ):
        process, model = Process(store, Scripted("old")), Gated("half ")
        conversation_id = (await process.say(alice, "hello")).conversation_id
        slow = Process(store, model)
        regenerating = asyncio.create_task(slow.regenerate(alice, conversation_id))
        await model.asked.wait()
        async with store.begin(alice, read_only=True) as tx:
            running = await tx.turns.running(conversation_id)
        assert running is not None
        assert "hello" == running.message.content
        await slow.turns.cancel(alice, running.id)

        assert MessageStatus.CANCELLED == (await regenerating).reply.status
        assert ["hello", "half "] == await contents(store, alice, conversation_id)

    async def test_a_failed_reply_can_be_had_anew(self, store: Store, alice: str):
        model = Scripted("half", error=ModelError("It broke off."))
        process = Process(store, model)
        with pytest.raises(ModelError) as failed:
            await process.say(alice, "hello")
        model.pieces, model.error = ("whole",), None
        conversation_id = UUID(failed.value.extensions["conversation_id"])

        await process.regenerate(alice, conversation_id)

        assert ["hello", "whole"] == await contents(store, alice, conversation_id)

    async def test_where_there_is_nothing_it_is_refused(self, store: Store, alice: str, bob: str):
        process = Process(store, Scripted("ok"))
        empty = await make_conversation(store, alice)
        with pytest.raises(NothingToRegenerate):
            await process.regenerate(alice, empty.id)
        with pytest.raises(NothingToRegenerate):
            await process.say(alice, "hello", empty.id, replace_last=True)
        his = (await process.say(bob, "hello")).conversation_id
        for missing in (his, new_id()):
            with pytest.raises(ConversationNotFound):
                await process.regenerate(alice, missing)

    async def test_the_first_turn_is_waited_for_also_where_another_process_runs_it(
        self, store: Store, alice: str
    ):
        model = Gated("first ")
        here, there = Process(store, model), Process(store, Scripted("new"))
        started = await here.begin(alice)
        await model.asked.wait()
        with pytest.raises(TurnInProgress):
            await there.regenerate(alice, started.conversation_id)
        waiting = asyncio.create_task(
            there.regenerate(alice, started.conversation_id, if_busy="wait")
        )
        model.gate.set()

        assert "new" == (await waiting).reply.content
        assert ["hello", "new"] == await contents(store, alice, started.conversation_id)

    async def test_while_a_turn_runs_it_is_refused(self, store: Store, alice: str):
        process, model = Process(store, Scripted("ok")), Gated("first ")
        conversation_id = (await process.say(alice, "hello")).conversation_id
        slow = Process(store, model)
        await slow.begin(alice, conversation_id)
        await model.asked.wait()

        with pytest.raises(TurnInProgress):
            await process.regenerate(alice, conversation_id)
        model.gate.set()
        await slow.idle()


class TestReplaceLast:
    async def test_an_edited_message_takes_the_place_of_the_last_one(
        self, store: Store, alice: str
    ):
        model = Scripted("ok")
        process = Process(store, model)
        conversation_id = (await process.say(alice, "first")).conversation_id
        await process.say(alice, "secnod", conversation_id)
        reply = await process.say(alice, "second", conversation_id, replace_last=True)

        assert 3 == reply.message.position
        assert ["first", "ok", "second", "ok"] == await contents(store, alice, conversation_id)
        assert PromptMessage("user", "second") == model.prompts[-1][-1]
        assert "secnod" not in str(model.prompts[-1])

    async def test_it_names_its_conversation(self, say):
        refused = await say(replace_last=True)

        assert 422 == refused.status_code
        assert [["body"]] == [fault["location"] for fault in refused.json()["errors"]]


class TestHttp:
    @pytest.fixture
    def responder(self) -> Scripted:
        return Scripted("old")

    async def test_no_body_is_needed_and_the_old_reply_can_be_listed(
        self, say, client: AsyncClient, alice: str, bearer, responder: Scripted
    ):
        path = f"/api/v1/conversations/{(await say()).json()['conversation_id']}"
        responder.pieces = ("new",)

        answer = await client.post(f"{path}/regenerate", headers=bearer(alice))

        assert (200, "new") == (answer.status_code, answer.json()["reply"]["content"])
        listed = await client.get(
            f"{path}/messages", params={"superseded": True}, headers=bearer(alice)
        )
        assert [
            (1, "hello", True), (1, "hello", False), (2, "old", True), (2, "new", False),
        ] == [
            (message["position"], message["content"], message["superseded"])
            for message in listed.json()["items"]
        ]  # fmt: skip
        shown = (await client.get(f"{path}/messages", headers=bearer(alice))).json()["items"]
        assert ["hello", "new"] == [message["content"] for message in shown]
        assert not any("superseded" in message for message in shown)

    async def test_of_one_that_failed_the_list_says_which_is_shown(
        self, say, client: AsyncClient, alice: str, bearer, responder: Scripted
    ):
        path = f"/api/v1/conversations/{(await say()).json()['conversation_id']}"
        responder.pieces, responder.error = ("half",), ModelError("It broke off.")
        assert 502 == (await client.post(f"{path}/regenerate", headers=bearer(alice))).status_code

        listed = await client.get(
            f"{path}/messages", params={"superseded": True}, headers=bearer(alice)
        )
        assert [("old", False), ("half", True)] == [
            (message["content"], message["superseded"]) for message in listed.json()["items"][2:]
        ]

    async def test_it_streams_and_takes_a_key_as_chat_does(
        self, say, client: AsyncClient, alice: str, bearer
    ):
        path = f"/api/v1/conversations/{(await say()).json()['conversation_id']}/regenerate"
        headers = bearer(alice) | {"Idempotency-Key": "k", "Accept": "text/event-stream"}
        first, again = [await client.post(path, json={}, headers=headers) for _ in range(2)]

        assert "text/event-stream; charset=utf-8" == first.headers["Content-Type"]
        assert (None, "true") == tuple(
            response.headers.get("Idempotency-Replayed") for response in (first, again)
        )

    async def test_a_chat_with_the_key_of_a_regenerate_is_another_request(
        self, say, client: AsyncClient, alice: str, bearer
    ):
        conversation_id = (await say()).json()["conversation_id"]
        headers = bearer(alice) | {"Idempotency-Key": "k"}
        path = f"/api/v1/conversations/{conversation_id}/regenerate"
        assert 200 == (await client.post(path, headers=headers)).status_code
        refused = await client.post(
            "/api/v1/me/chat",
            json={"message": "hello", "conversation_id": conversation_id},
            headers=headers,
        )

        assert "idempotency-key-reused" == refused.json()["code"]

    async def test_an_empty_conversation_is_409(self, client: AsyncClient, alice: str, bearer):
        made = await client.post("/api/v1/conversations", json={}, headers=bearer(alice))
        refused = await client.post(
            f"/api/v1/conversations/{made.json()['id']}/regenerate", headers=bearer(alice)
        )

        assert (409, "nothing-to-regenerate") == (refused.status_code, refused.json()["code"])
