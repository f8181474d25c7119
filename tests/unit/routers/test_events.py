"""The response that server-sent events travel in."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from parley.routers import _events
from parley.routers._events import EventStream


class Wire:
    """A client's end of the connection."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self.gone = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.sent.put_nowait(message)

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def next_body(self) -> bytes:
        while (message := await self.sent.get())["type"] != "http.response.body":
            pass
        return message["body"]


class Frames:
    """Yields one, then waits."""

    def __init__(self) -> None:
        self.more = asyncio.Event()
        self.was_closed = False

    async def stream(self) -> AsyncGenerator[bytes]:
        try:
            yield b"one"
            await self.more.wait()
            yield b"two"
        finally:
            self.was_closed = True


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_events, "HEARTBEAT_SECONDS", 0)
    wire, frames = Wire(), Frames()
    serving = asyncio.create_task(EventStream(frames.stream())({}, wire.receive, wire.send))

    assert b"one" == await wire.next_body()
    assert b":\n\n" == await wire.next_body()
    frames.more.set()
    while (body := await wire.next_body()) == b":\n\n":
        pass
    assert b"two" == body
    await serving
    rest = [wire.sent.get_nowait() for _ in range(wire.sent.qsize())]
    assert {"type": "http.response.body", "body": b"", "more_body": False} == rest[-1]


async def test_a_client_that_leaves_ends_the_reading():
    wire, frames = Wire(), Frames()
    serving = asyncio.create_task(EventStream(frames.stream())({}, wire.receive, wire.send))
    assert b"one" == await wire.next_body()

    wire.gone.set()
    await serving

    assert frames.was_closed


async def test_what_breaks_the_frames_breaks_the_response():
    async def broken() -> AsyncGenerator[bytes]:
        yield b"one"
        raise RuntimeError("on purpose")

    wire = Wire()
    with pytest.raises(RuntimeError, match="on purpose"):
        await EventStream(broken())({}, wire.receive, wire.send)
