"""Turns that a model of another server's answers: what the client is told, and what is recorded."""

import asyncio
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from parley.core.settings import Settings
from parley.crud.ports import Store
from tests.clocks import LoopClock
from tests.conftest import SECRET
from tests.events import parse
from tests.factories import messages_of
from tests.integration.openai.listening import CANARY, TOLD
from tests.model_server import (
    DONE,
    MODEL,
    USAGE,
    Endless,
    ModelServer,
    Step,
    Then,
    answer,
    event,
    head,
    piece,
    reply,
)
from tests.responders import failures_in

NOTHING: list[str] = []
BOTH = ["complete", "failed"]
SILENCE_SECONDS = 20


@pytest.fixture
def settings(server: ModelServer) -> Settings:
    return Settings(
        auth_secret=SECRET,
        responder="openai",
        openai_base_url=server.url,
        openai_api_key="sk-secret",
        model="stub-1",
        # More than a busy machine takes for a connection, and less than the store has.
        model_timeout_seconds=SILENCE_SECONDS,
    )


@pytest.fixture
def responder() -> None:
    """The one of the settings."""


async def test_a_streamed_turn_ends_with_the_model_and_what_it_counted(say, server: ModelServer):
    response = await say("Hi", stream=True)

    *deltas, done = [event for event in parse(response.text) if event.name != "turn"]
    assert ["Hello", " there"] == [delta.data["text"] for delta in deltas]
    assert "done" == done.name
    assert ("Hello there", MODEL, USAGE) == tuple(
        done.data["reply"][name] for name in ("content", "model", "usage")
    )
    assert ["stub-1"] == [asked.body["model"] for asked in server.asked]


async def test_what_was_said_before_is_asked_again(say, server: ModelServer):
    conversation_id = (await say("Hi")).json()["conversation_id"]
    await say("And now?", conversation_id=conversation_id)

    assert [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello there"},
        {"role": "user", "content": "And now?"},
    ] == server.asked[1].body["messages"]


async def test_what_no_store_keeps_does_not_keep_the_rest_from_being_recorded(
    say, server: ModelServer
):
    server.script = reply("a\x00b\ud800", "c")

    assert "abc" == (await say()).json()["reply"]["content"]


FAULTS: list[Any] = [
    pytest.param(answer("401 Unauthorized", TOLD), 503, "model-unavailable", NOTHING, id="401"),
    pytest.param(answer("404 Not Found", TOLD), 503, "model-unavailable", NOTHING, id="404"),
    pytest.param(answer("500 Oops", TOLD), 503, "model-unavailable", NOTHING, id="500"),
    pytest.param(answer("429 Slow Down", TOLD), 503, "model-unavailable", NOTHING, id="429"),
    pytest.param([Then.CUT], 503, "model-unavailable", NOTHING, id="hung up"),
    pytest.param(answer("400 Bad Request", TOLD), 502, "model-error", NOTHING, id="400"),
    pytest.param(answer("200 OK", TOLD), 502, "model-error", NOTHING, id="200 and an error"),
    pytest.param(
        answer("200 OK", CANARY.encode(), "text/html"), 502, "model-error", NOTHING, id="HTML"
    ),
    pytest.param(
        [head(), b"data: " + CANARY.encode() + b"\n\n"], 502, "model-error", NOTHING, id="garbage"
    ),
    pytest.param(
        [head(), b"data: " + TOLD + b"\n\n"], 502, "model-error", NOTHING, id="a streamed error"
    ),
    pytest.param([head(), *reply()[1:]], 502, "model-error", NOTHING, id="no word"),
    pytest.param([Then.STALL], 504, "model-timeout", NOTHING, id="no answer"),
    pytest.param([head(), Then.STALL], 504, "model-timeout", NOTHING, id="a silent stream"),
    pytest.param([head(), piece("half"), Then.CUT], 502, "model-error", BOTH, id="a cut"),
    pytest.param([head(), piece("half"), DONE], 502, "model-error", BOTH, id="no end"),
    pytest.param([head(), piece("half"), Then.STALL], 504, "model-timeout", BOTH, id="a stall"),
    pytest.param(
        [head(), piece("half"), b"data: ", Endless(CANARY.encode() * 999)],
        502,
        "model-error",
        BOTH,
        id="an endless line",
    ),
    pytest.param(
        [head(), piece("half"), event({"error": {"message": CANARY}})],
        502,
        "model-error",
        BOTH,
        id="an error in mid-stream",
    ),
]


def pieces_of_the_turn(app: FastAPI, user_id: str) -> list[str]:
    """Of the one that runs."""
    (live,) = app.state.runner.by_user()[user_id]
    return live.pieces


@pytest.mark.parametrize(("script", "status", "code", "recorded"), FAULTS)
async def test_each_fault_has_one_outcome_and_says_nothing_of_the_other_side(
    say,
    app: FastAPI,
    client: AsyncClient,
    alice: str,
    bearer: Callable[[str], dict[str, str]],
    store: Store,
    server: ModelServer,
    loop_clock: LoopClock,
    logged: StringIO,
    script: list[Step],
    status: int,
    code: str,
    recorded: list[str],
):
    server.script = script
    asking = asyncio.create_task(say("what I said"))
    if Then.STALL in script:
        sent = sum(len(step) for step in script if isinstance(step, bytes))
        heard = ["half"] if recorded else []
        while not server.asked or server.sent < sent or heard != pieces_of_the_turn(app, alice):
            await asyncio.sleep(0.01)
        loop_clock.ahead += SILENCE_SECONDS
    response = await asking

    problem = response.json()
    assert (status, code) == (response.status_code, problem["code"])
    assert (503 == status) == ("Retry-After" in response.headers)
    turn = await client.get(f"/api/v1/turns/{problem['turn_id']}", headers=bearer(alice))
    assert ("failed", code) == (turn.json()["status"], turn.json()["problem"]["code"])
    kept = await messages_of(store, alice, problem["conversation_id"])
    assert recorded == [message.status for message in kept]
    assert [(problem["turn_id"], "stub-1", code, response.headers["X-Request-ID"])] == [
        (line["turn_id"], line["model"], line["code"], line["request_id"])
        for line in failures_in(logged)
    ]
    metrics = await client.get("/metrics")
    told = f"{response.text}{turn.text}{metrics.text}{logged.getvalue()}"
    assert [] == [word for word in (CANARY, "sk-secret") if word in told]
    assert "what I said" not in logged.getvalue() + metrics.text


async def test_who_is_not_there_is_503(say, server: ModelServer):
    await server.stop()

    response = await say()

    assert (503, "model-unavailable") == (response.status_code, response.json()["code"])
    assert 1 <= int(response.headers["Retry-After"]) <= 5


async def test_a_429_passes_on_when_to_try_again(say, server: ModelServer):
    server.script = answer("429 Too Many Requests", TOLD, Retry_After="77")

    response = await say()

    assert ("77", 503) == (response.headers["Retry-After"], response.status_code)


async def test_a_refusal_of_a_stream_is_an_event(say, server: ModelServer):
    server.script = answer("500 Oops", TOLD)

    *_, last = parse((await say(stream=True)).text)

    assert ("error", "model-unavailable") == (last.name, last.data["code"])
