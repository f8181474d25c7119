"""Others have their turn while a model says nothing, and much of it."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from parley.services.responders.openai import OpenAIResponder
from tests.integration.openai.listening import text_of
from tests.model_server import ModelServer, Step, chunked, head, reply

FLOOD_BYTES = 2**16
AT_ONCE_MAX_CALLS = 5000


class Turns:
    most_calls = 0
    """Of Python functions, between one turn of somebody else's and the next."""


@asynccontextmanager
async def others_turns() -> AsyncGenerator[Turns]:
    turns, calls = Turns(), 0

    def count(_frame: object, kind: str, _argument: object) -> None:
        nonlocal calls
        calls += kind == "call"

    async def take_turns() -> None:
        nonlocal calls
        while True:
            await asyncio.sleep(0)
            turns.most_calls = max(turns.most_calls, calls)
            calls = 0

    taking = asyncio.create_task(take_turns())
    sys.setprofile(count)
    try:
        yield turns
    finally:
        sys.setprofile(None)
        taking.cancel()


def flood(drop: bytes) -> bytes:
    return drop * (FLOOD_BYTES // len(drop))


GOOD = reply("heard")


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([flood(b"HTTP/1.1 103 Early Hints\r\n\r\n"), *GOOD], id="early hints"),
        pytest.param([head(), flood(b":\n\n"), *GOOD[1:]], id="comments"),
        pytest.param([head(), flood(b"\n"), *GOOD[1:]], id="empty lines"),
        pytest.param([head(), flood(b"a\n"), *GOOD[1:]], id="lines"),
        pytest.param([head(), flood(b"data\n\n"), *GOOD[1:]], id="empty events"),
        pytest.param([head(), flood(b"data: {}\n\n"), *GOOD[1:]], id="events"),
        pytest.param([*GOOD[:-2], flood(b"data: {}\n\n")], id="last words"),
        pytest.param(
            [
                head(Transfer_Encoding="chunked"),
                flood(chunked(b"\n")),
                *map(chunked, [*GOOD[1:], b""]),
            ],
            id="chunks of a byte",
        ),
    ],
)
async def test_a_flood_is_not_worked_through_at_once(
    server: ModelServer, responder: OpenAIResponder, script: list[Step]
):
    server.script = script

    async with others_turns() as turns:
        assert "heard" == await text_of(responder)

    assert turns.most_calls < AT_ONCE_MAX_CALLS
