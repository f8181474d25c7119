"""A turn whose model breaks off, falls silent or never ends."""

from io import StringIO

import pytest
from httpx import AsyncClient

from parley.core.errors import ModelError, ModelTimeout, ModelUnavailable
from parley.core.settings import Settings
from parley.crud.ports import Store
from parley.services.responders.base import PromptMessage
from parley.services.turns.starter import KEPT
from tests.conftest import SECRET
from tests.events import parse
from tests.factories import messages_of
from tests.responders import Gated, Scripted, failures_in


class TestBrokenModel:
    @pytest.fixture
    def responder(self) -> Scripted:
        return Scripted()

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(auth_secret=SECRET, reply_max_characters=10)

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (ModelUnavailable("It is down."), 503, "model-unavailable"),
            (ModelError("It makes no sense."), 502, "model-error"),
            (ModelTimeout("It is slow."), 504, "model-timeout"),
            (RuntimeError("canary"), 500, "internal-error"),
            (None, 502, "model-error"),
        ],
    )
    async def test_before_the_first_piece_nothing_is_recorded_and_the_turn_says_why(
        self,
        say,
        client: AsyncClient,
        alice: str,
        bearer,
        store: Store,
        responder: Scripted,
        error: Exception | None,
        status: int,
        code: str,
    ):
        responder.error = error
        response = await say("what I said")

        problem = response.json()
        assert (status, code) == (response.status_code, problem["code"])
        assert (503 == status) == ("Retry-After" in response.headers)
        assert "canary" not in response.text
        assert [] == await messages_of(store, alice, problem["conversation_id"])
        turn = (
            await client.get(f"/api/v1/turns/{problem['turn_id']}", headers=bearer(alice))
        ).json()
        assert ("failed", "what I said", code) == (
            turn["status"],
            turn["message"]["content"],
            turn["problem"]["code"],
        )

        responder.error, responder.pieces = None, ("fine",)
        again = await say("again", conversation_id=problem["conversation_id"])
        assert (200, 1) == (again.status_code, again.json()["message"]["position"])

    @pytest.mark.parametrize("stream", [False, True])
    async def test_after_the_first_piece_both_are_recorded_and_the_reply_is_marked(
        self, say, store: Store, alice: str, responder: Scripted, *, stream: bool
    ):
        responder.pieces, responder.error = ("half ", "a"), ModelError("It broke off.")
        response = await say(stream=stream)

        if stream:
            *_, last = parse(response.text)
            assert "error" == last.name
            problem = last.data
            assert response.headers["X-Request-ID"] == problem["request_id"]
        else:
            problem = response.json()
            assert 502 == response.status_code
        assert "model-error" == problem["code"]
        recorded = await messages_of(store, alice, problem["conversation_id"])
        assert [("hello", "complete"), ("half a", "failed")] == [
            (message.content, message.status) for message in recorded
        ]

    async def test_a_failed_turn_is_kept_from_the_model(self, say, responder: Scripted):
        responder.pieces, responder.error = ("half",), ModelError("It broke off.")
        conversation_id = (await say("first")).json()["conversation_id"]
        responder.error = None
        await say("second", conversation_id=conversation_id)

        assert [PromptMessage("user", "second")] == responder.prompts[1]

    async def test_what_is_beyond_the_limit_is_no_empty_piece(self, say, responder: Scripted):
        responder.pieces = ("12345", "67890", "x")
        response = await say(stream=True)

        assert ["12345", "67890"] == [
            event.data["text"] for event in parse(response.text) if event.name == "delta"
        ]

    async def test_a_reply_without_end_is_cut_at_the_limit(
        self, say, store: Store, alice: str, responder: Scripted, logged: StringIO
    ):
        responder.pieces = ("12345678", "90abc", "never")
        response = await say()

        assert (502, "model-error") == (response.status_code, response.json()["code"])
        assert ModelError.title == response.json()["title"]
        assert "The reply was longer than REPLY_MAX_CHARACTERS allows" in response.json()["detail"]
        assert KEPT in response.json()["detail"]
        (line,) = failures_in(logged)
        assert response.json()["turn_id"] == line["turn_id"]
        assert "it said more than REPLY_MAX_CHARACTERS" == line["reason"]
        recorded = await messages_of(store, alice, response.json()["conversation_id"])
        assert ("1234567890", "failed") == (recorded[1].content, recorded[1].status)

    @pytest.mark.parametrize("pieces", [(), ("",)])
    async def test_one_that_says_nothing_has_failed(
        self, say, responder: Scripted, logged: StringIO, pieces: tuple[str, ...]
    ):
        responder.pieces = pieces
        response = await say()

        assert "The model said nothing. Try again." == response.json()["detail"]
        (line,) = failures_in(logged)
        assert (response.json()["turn_id"], "it said nothing") == (
            line["turn_id"],
            line["reason"],
        )

    @pytest.mark.parametrize("error", [None, RuntimeError("canary")])
    async def test_neither_a_good_reply_nor_a_bug_of_ours_is_its_failure(
        self, say, responder: Scripted, logged: StringIO, error: Exception | None
    ):
        responder.pieces, responder.error = ("piece",), error
        await say()

        assert [] == failures_in(logged)
        assert (error is not None) == ("responder-crashed" in logged.getvalue())


class TestSilentModel:
    @pytest.fixture(params=["", "a piece"])
    def responder(self, request: pytest.FixtureRequest) -> Gated:
        return Gated(request.param)

    @pytest.fixture(params=[{"model_timeout_seconds": 0.05}, {"model_reply_seconds": 0.05}])
    def settings(self, request: pytest.FixtureRequest) -> Settings:
        return Settings(auth_secret=SECRET, **request.param)

    async def test_silence_is_a_timeout_and_the_model_is_let_go(
        self, say, store: Store, alice: str, responder: Gated, settings: Settings, logged: StringIO
    ):
        response = await say()

        assert (504, "model-timeout") == (response.status_code, response.json()["code"])
        assert responder.was_closed
        advice = KEPT if responder.first else "Try again."
        assert response.json()["detail"].endswith(advice)
        (line,) = failures_in(logged)
        (limit,) = settings.model_fields_set - {"auth_secret"}
        assert (response.json()["turn_id"], "model-timeout") == (line["turn_id"], line["code"])
        assert limit.upper() in line["reason"]
        recorded = await messages_of(store, alice, response.json()["conversation_id"])
        assert (["complete", "failed"] if responder.first else []) == [m.status for m in recorded]
