"""A turn over HTTP: what is answered, and what is there afterwards."""

import asyncio

import pytest
from httpx import AsyncClient

from parley.core.ids import new_id
from parley.core.settings import Settings
from parley.crud.ports import Store
from parley.services.responders.base import PromptMessage
from tests.conftest import SECRET
from tests.events import parse
from tests.factories import messages_of
from tests.responders import Gated, Scripted


class TestEcho:
    async def test_a_message_is_answered_and_both_are_recorded(
        self, say, store: Store, alice: str
    ):
        response = await say("hello")

        assert 200 == response.status_code
        reply = response.json()
        assert "You said: hello\nI remember nothing yet." == reply["reply"]["content"]
        recorded = await messages_of(store, alice, reply["conversation_id"])
        assert [reply["message"], reply["reply"]] == [m.model_dump(mode="json") for m in recorded]

    async def test_the_next_turn_remembers_the_first(self, say):
        first = (await say("one two three four five six")).json()
        second = await say("again", conversation_id=first["conversation_id"])

        assert (
            "You said: again\n"
            "I remember 2 earlier messages; you last said: one two three four five."
        ) == second.json()["reply"]["content"]
        assert [3, 4] == [second.json()[side]["position"] for side in ("message", "reply")]
        assert second.json()["message"]["id"] < second.json()["reply"]["id"]

    async def test_the_reply_has_every_field_of_the_contract(self, say, alice: str):
        body = (await say()).json()

        assert {"turn_id", "conversation_id", "message", "reply"} == set(body)
        assert {
            "id", "conversation_id", "position", "role", "content", "status",
            "attachments", "model", "usage", "created_at",
        } == set(body["reply"])  # fmt: skip
        assert alice not in str(body)

    async def test_a_new_conversation_is_titled_by_the_first_80_characters(
        self, say, client: AsyncClient, alice: str, bearer
    ):
        message = "é" * 100
        conversation_id = (await say(message)).json()["conversation_id"]

        found = await client.get(f"/api/v1/conversations/{conversation_id}", headers=bearer(alice))
        assert "é" * 80 == found.json()["title"]

    async def test_text_comes_back_exactly_as_it_went_in(self, say, store: Store, alice: str):
        message = (
            " \t\u202e\u0301" + "e\u0301" * 500 + "\r\n\U0001f469\u200d\U0001f680 '; DROP TABLE-- "
        )
        body = (await say(message)).json()

        assert message == body["message"]["content"]
        assert message == (await messages_of(store, alice, body["conversation_id"]))[0].content

    async def test_the_longest_message_is_taken_and_one_more_character_is_not(self, say):
        assert 200 == (await say("x" * 32_000)).status_code
        assert 422 == (await say("x" * 32_001)).status_code

    @pytest.mark.parametrize(
        "field",
        ["files", "user_id", "role", "position", "id", "fingerprint"],
    )
    async def test_a_field_that_is_not_there_is_refused(self, say, field: str):
        response = await say(**{field: None})

        assert 422 == response.status_code
        assert [{"location": ["body", field], "code": "extra-forbidden"}] == [
            {"location": e["location"], "code": e["code"]} for e in response.json()["errors"]
        ]


class TestStream:
    @pytest.mark.parametrize("asks", ["body", "header"])
    async def test_a_turn_is_told_piece_by_piece(
        self, client: AsyncClient, alice: str, bearer, store: Store, asks: str
    ):
        body = {"message": "hello you"} | ({"stream": True} if asks == "body" else {})
        accept = {"Accept": "text/html, text/event-stream;q=0.9"} if asks == "header" else {}
        response = await client.post("/api/v1/me/chat", json=body, headers=bearer(alice) | accept)

        assert "text/event-stream; charset=utf-8" == response.headers["Content-Type"]
        assert "no-store" == response.headers["Cache-Control"]
        assert "\r" not in response.text
        events = parse(response.text)
        assert [*range(1, len(events) + 1)] == [event.id for event in events]
        assert ["turn", *["delta"] * (len(events) - 2), "done"] == [e.name for e in events]
        done = events[-1].data
        assert {"turn_id", "conversation_id"} == set(events[0].data)
        assert done["reply"]["content"] == "".join(e.data["text"] for e in events[1:-1])
        assert ["You ", "said: "] == [e.data["text"] for e in events[1:3]]
        assert 2 == len(await messages_of(store, alice, done["conversation_id"]))

    async def test_a_refusal_is_a_problem_and_not_half_a_stream(self, say):
        response = await say(stream=True, conversation_id=str(new_id()))

        assert 404 == response.status_code
        assert "application/problem+json" == response.headers["Content-Type"]


class TestPrompt:
    @pytest.fixture
    def responder(self) -> Scripted:
        return Scripted("ok")

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(auth_secret=SECRET, system_prompt="Be kind.", history_max_messages=3)

    async def test_wishes_come_first_then_the_newest_messages_in_order(
        self, say, client: AsyncClient, alice: str, bearer, responder: Scripted
    ):
        made = await client.post(
            "/api/v1/conversations", json={"instructions": "Be brief."}, headers=bearer(alice)
        )
        for message in ("one", "two", "three"):
            await say(message, conversation_id=made.json()["id"])

        wishes = [PromptMessage("system", "Be kind.\n\nBe brief.")]
        assert [*wishes, PromptMessage("user", "one")] == responder.prompts[0]
        # Three messages would be a turn and a half.
        assert [
            *wishes,
            PromptMessage("user", "two"),
            PromptMessage("assistant", "ok"),
            PromptMessage("user", "three"),
        ] == responder.prompts[2]


class TestBusyConversation:
    @pytest.fixture
    def responder(self) -> Gated:
        return Gated("first ")

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(auth_secret=SECRET, streams_max_per_user=50)

    async def test_of_fifty_at_once_one_is_answered_and_the_others_are_told(
        self, say, store: Store, alice: str, client: AsyncClient, bearer, responder: Gated
    ):
        made = await client.post("/api/v1/conversations", json={}, headers=bearer(alice))
        conversation_id = made.json()["id"]

        asked = [
            asyncio.create_task(say(str(n), conversation_id=conversation_id)) for n in range(50)
        ]
        await responder.asked.wait()
        losers = 0
        for next_done in asyncio.as_completed(asked):
            response = await next_done
            losers += response.status_code == 409
            if losers == 49:
                responder.gate.set()

        codes = sorted(task.result().status_code for task in asked)
        assert [200, *[409] * 49] == codes
        assert {"turn-in-progress"} == {
            task.result().json()["code"] for task in asked if task.result().status_code == 409
        }
        recorded = await messages_of(store, alice, conversation_id)
        assert [1, 2] == [message.position for message in recorded]

    async def test_a_running_turn_is_seen_on_its_conversation_from_the_start(
        self, say, client: AsyncClient, alice: str, bearer, responder: Gated
    ):
        asking = asyncio.create_task(say("hello"))
        await responder.asked.wait()
        listed = await client.get("/api/v1/conversations", headers=bearer(alice))
        (conversation,) = listed.json()["items"]

        path = f"/api/v1/conversations/{conversation['id']}"
        running = (await client.get(path, headers=bearer(alice))).json()["running_turn"]
        assert ("running", "hello") == (running["status"], running["message"]["content"])

        responder.gate.set()
        reply = (await asking).json()
        assert running["id"] == reply["turn_id"]
        detail = (await client.get(path, headers=bearer(alice))).json()
        assert (None, 2) == (detail["running_turn"], len(detail["messages"]))

    async def test_deleting_the_conversation_in_mid_turn_is_404(
        self, say, client: AsyncClient, alice: str, bearer, responder: Gated
    ):
        made = await client.post("/api/v1/conversations", json={}, headers=bearer(alice))
        asking = asyncio.create_task(say(conversation_id=made.json()["id"]))
        await responder.asked.wait()

        path = f"/api/v1/conversations/{made.json()['id']}"
        deleted = await client.delete(path, headers=bearer(alice))
        assert {"id": made.json()["id"], "deleted": True} == deleted.json()
        responder.gate.set()

        response = await asking
        assert (404, "conversation-not-found") == (response.status_code, response.json()["code"])


class TestAlias:
    async def test_it_answers_alike_and_says_what_to_use_instead(self, say, alice: str):
        response = await say(path=f"/api/{alice}/chat")

        assert 200 == response.status_code
        assert "@1795219200" == response.headers["Deprecation"]
        assert "Sun, 21 Nov 2027 00:00:00 GMT" == response.headers["Sunset"]
        assert f'</api/v1/{alice}/chat>; rel="successor-version"' == response.headers["Link"]

    async def test_a_refusal_says_it_too_and_a_hostile_path_forges_no_header(self, say):
        response = await say(path="/api/a%0d%0aX-Evil:%20b/chat")

        assert 422 == response.status_code
        assert "Deprecation" in response.headers
        assert "X-Evil" not in response.headers

    async def test_what_is_refused_before_anything_is_asked_says_it_too(
        self, client: AsyncClient, alice: str, bearer
    ):
        for headers in ({}, {"Content-Encoding": "gzip"}, {"Content-Length": "99999999"}):
            response = await client.post(
                "/api/me/chat",
                content=b"{bad",
                headers=bearer(alice) | {"Content-Type": "application/json"} | headers,
            )
            assert 400 < response.status_code < 500
            assert "Deprecation" in response.headers

    async def test_the_versioned_path_says_nothing(self, say):
        assert "Deprecation" not in (await say()).headers
