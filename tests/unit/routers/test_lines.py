"""The response that JSON Lines travel in."""

import asyncio
from collections.abc import AsyncGenerator
from io import StringIO

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message

from parley.core.errors import ConversationNotFound
from parley.routers._lines import JsonLines, lines_of
from parley.schemas.base import Entity

END = {"type": "http.response.body", "body": b"", "more_body": False}


class Line(Entity):
    number: int


class Values:
    """Counts up, and how often it was asked; raises its error behind the third, if it has one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked = 0
        self.was_closed = False
        self._error = error

    async def stream(self) -> AsyncGenerator[Line]:
        try:
            for number in (1, 2, 3):
                self.asked = number
                yield Line(number=number)
            if self._error is not None:
                raise self._error
        finally:
            self.was_closed = True


class Reader:
    """A client that takes what is sent one by one, when it is told to."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.sent: list[Message] = []
        self.room = asyncio.Semaphore(0)
        self.gone = asyncio.Event()
        self._refusal = refusal
        self._offered = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        self._offered.set()
        await self.room.acquire()

    async def receive(self) -> Message:
        if self._refusal is not None:
            raise self._refusal
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def is_offered(self, count: int) -> None:
        while len(self.sent) < count:
            self._offered.clear()
            await self._offered.wait()


async def answer(values: Values, reader: Reader) -> "asyncio.Task[None]":
    lines = lines_of(values.stream())
    response = JsonLines(await anext(lines), lines, filename="numbers.jsonl")
    return asyncio.create_task(response({}, reader.receive, reader.send))


async def test_a_value_is_a_line_of_utf_8_and_the_end_is_said():
    reader = Reader()
    reader.room = asyncio.Semaphore(10)
    await (await answer(Values(), reader))

    start, *lines = reader.sent
    assert (b"content-type", b"application/jsonl") in start["headers"]
    assert (b"content-disposition", b'attachment; filename="numbers.jsonl"') in start["headers"]
    assert b'{"number":1}\n{"number":2}\n{"number":3}\n' == b"".join(m["body"] for m in lines)
    assert END == lines[-1]


async def test_nothing_more_is_asked_for_than_is_taken():
    reader, values = Reader(), Values()
    serving = await answer(values, reader)

    asked = []
    for count in (1, 2, 3, 4):
        await reader.is_offered(count)
        asked.append(values.asked)
        reader.room.release()
    reader.room.release()
    await serving

    assert [1, 1, 2, 3] == asked


async def test_for_a_client_that_leaves_nothing_more_is_asked():
    reader, values = Reader(), Values()
    serving = await answer(values, reader)
    await reader.is_offered(1)
    reader.room.release()
    await reader.is_offered(2)

    reader.gone.set()
    reader.room.release()
    await serving

    assert 1 == values.asked
    assert values.was_closed
    assert END not in reader.sent


async def test_a_body_that_is_refused_is_no_leaving():
    reader = Reader(refusal=HTTPException(415))
    reader.room = asyncio.Semaphore(10)
    await (await answer(Values(), reader))

    assert END == reader.sent[-1]


async def test_what_breaks_off_has_no_end_and_the_log_says_why(logged: StringIO):
    reader = Reader()
    reader.room = asyncio.Semaphore(10)
    await (await answer(Values(ConversationNotFound()), reader))

    assert b'{"number":3}\n' == reader.sent[-1]["body"]
    assert reader.sent[-1]["more_body"]
    assert '"event": "answer-broken-off"' in logged.getvalue()
    assert '"code": "conversation-not-found"' in logged.getvalue()


async def test_a_bug_is_the_layers_business():
    reader, values = Reader(), Values(RuntimeError("on purpose"))
    reader.room = asyncio.Semaphore(10)

    with pytest.raises(RuntimeError, match="on purpose"):
        await (await answer(values, reader))
    assert END not in reader.sent
