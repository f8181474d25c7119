"""Rows 30, 57 and 67: another's turn and its stream, keys that are none, a model of one's own."""

import asyncio

import pytest
from httpx import AsyncClient, Response

from parley.core.ids import new_id
from tests.responders import Gated


@pytest.fixture
def send(client: AsyncClient, bearer):
    """One message of a user's, with a key."""

    async def send(
        user_id: str, key: str | bytes = "k", message: str = "hello", **body: object
    ) -> Response:
        return await client.post(
            "/api/v1/me/chat",
            json={"message": message, **body},
            headers=bearer(user_id) | {"Idempotency-Key": key},
        )

    return send


class TestAnothersTurn:
    @pytest.fixture
    def responder(self) -> Gated:
        return Gated("of bob alone ")

    async def test_while_it_runs_it_is_as_missing_as_nobodys_and_goes_on(
        self, send, client: AsyncClient, alice: str, bob: str, bearer, responder: Gated
    ):
        """Row 30."""
        speaking = asyncio.create_task(send(bob))
        await responder.asked.wait()
        listed = await client.get("/api/v1/conversations", headers=bearer(bob))
        path = f"/api/v1/conversations/{listed.json()['items'][0]['id']}"
        running = (await client.get(path, headers=bearer(bob))).json()["running_turn"]["id"]

        for turn_id in (running, str(new_id())):
            turn = f"/api/v1/turns/{turn_id}"
            for answer in (
                await client.get(f"{turn}/events", headers=bearer(alice)),
                await client.get(f"{turn}/events", headers=bearer(alice) | {"Last-Event-ID": "1"}),
                await client.post(f"{turn}/cancel", headers=bearer(alice)),
                await client.get(turn, headers=bearer(alice)),
            ):
                assert (404, "turn-not-found") == (answer.status_code, answer.json()["code"])
                assert "bob" not in answer.text
        refused = await client.post(f"{path}/regenerate", headers=bearer(alice))
        assert (404, "conversation-not-found") == (refused.status_code, refused.json()["code"])

        responder.gate.set()
        assert "of bob alone re: hello" == (await speaking).json()["reply"]["content"]

    async def test_nobody_joins_it_by_its_key(self, send, alice: str, bob: str, responder: Gated):
        responder.gate.set()
        his, hers = await send(bob), await send(alice)

        assert 200 == hers.status_code
        assert "Idempotency-Replayed" not in hers.headers
        assert his.json()["turn_id"] != hers.json()["turn_id"]


class TestKey:
    """Row 57."""

    @pytest.mark.parametrize("key", ["", "x" * 256, "with space", "n\u00f6", "tab\t"])
    async def test_it_is_visible_ascii_of_some_length(self, send, alice: str, key: str):
        refused = await send(alice, key.encode("latin-1"))

        assert 422 == refused.status_code
        assert [["header", "Idempotency-Key"]] == [
            fault["location"] for fault in refused.json()["errors"]
        ]

    async def test_the_longest_is_taken(self, send, alice: str):
        assert 200 == (await send(alice, "~" * 255)).status_code

    async def test_of_two_none_counts(self, client: AsyncClient, alice: str, bearer):
        refused = await client.post(
            "/api/v1/me/chat",
            json={"message": "hello"},
            headers=[
                *bearer(alice).items(),
                ("Idempotency-Key", "a"),
                ("Idempotency-Key", "b"),
            ],
        )

        assert (422, "invalid-request") == (refused.status_code, refused.json()["code"])


class TestModel:
    """Row 67: which is asked, and where, is the operator's."""

    @pytest.mark.parametrize(
        "field", ["base_url", "openai_base_url", "api_key", "url", "endpoint", "headers"]
    )
    async def test_no_request_says_where_it_is(self, send, alice: str, field: str):
        refused = await send(alice, **{field: "http://169.254.169.254/"})

        assert 422 == refused.status_code
        assert "169.254" not in refused.text

    @pytest.mark.parametrize("model", ["http://127.0.0.1/", "../other", "gpt-5\r\nX: y"])
    async def test_only_what_is_offered_is_asked(self, send, alice: str, model: str):
        refused = await send(alice, model=model)

        assert (422, "model-not-offered") == (refused.status_code, refused.json()["code"])
        assert model not in refused.text
