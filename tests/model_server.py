"""A server of our own that speaks as OpenAI does, or as badly as a test wants, over a real socket."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from enum import Enum
from typing import Any, NamedTuple

STREAM = "text/event-stream; charset=utf-8"
USAGE = {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}
MODEL = "stub-1-2026"


class Endless(bytes):
    """Sent again and again, until nobody takes it any more."""


class Then(Enum):
    CUT = "the connection is reset here"
    STALL = "nothing more is said, and nobody hangs up"


Step = bytes | asyncio.Event | Then


class Asked(NamedTuple):
    head: str
    body: Any

    @property
    def path(self) -> str:
        return self.head.split(" ")[1]

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.split("\r\n")[1:-2]
        return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


def head(status: str = "200 OK", content_type: str = STREAM, **headers: str) -> bytes:
    """The body ends with the connection, unless a header says otherwise."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def chunked(data: bytes) -> bytes:
    """A part of a body that has `Transfer-Encoding: chunked`; an empty one ends it."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(data: object) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def chunk(*choices: object, **members: object) -> bytes:
    made = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return event({**made, "choices": choices, **members})


def piece(content: object, finish: str | None = None) -> bytes:
    return chunk({"index": 0, "delta": {"content": content}, "finish_reason": finish})


def end(finish: str = "stop") -> bytes:
    return chunk({"index": 0, "delta": {}, "finish_reason": finish})


def reply(*pieces: str, usage: object = USAGE) -> list[bytes]:
    """A good one, as OpenAI sends it."""
    role = chunk({"index": 0, "delta": {"role": "assistant", "content": ""}})
    return [head(), role, *map(piece, pieces), end(), chunk(usage=usage), DONE]


def answer(status: str, body: bytes = b"", content_type: str = "application/json", **headers: str):
    """All of it at once."""
    return [head(status, content_type, **{"Content_Length": str(len(body)), **headers}) + body]


class ModelServer:
    """Takes each request, and answers it step by step as `script` has it, or its own path's."""

    def __init__(self) -> None:
        self.script: Sequence[Step] = reply("Hello", " there")
        self.scripts: list[Sequence[Step]] = []
        """For the requests that come first, one each."""
        self.asked: list[Asked] = []
        self.sent = 0
        self.left = asyncio.Event()
        """Set as soon as a client has hung up."""
        self.port = 0
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse what comes, and let go of what is there."""
        if self._server is not None:
            self._server.close()
        for task in self._answering:
            task.cancel()
        if self._answering:
            await asyncio.wait(self._answering)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        # What is drained was taken.
        writer.transport.set_write_buffer_limits(high=0)
        watching = None
        try:
            await self._read(reader)
            script = self.scripts.pop(0) if self.scripts else self.script
            watching = asyncio.create_task(self._watch(reader))
            with suppress(ConnectionError):
                for step in script:
                    await self._do(step, writer)
        except asyncio.CancelledError:
            # The server stops; asyncio would tell of it as of a bug.
            pass
        finally:
            if watching is not None:
                watching.cancel()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        asked = Asked((await reader.readuntil(b"\r\n\r\n")).decode(), None)
        body = await reader.readexactly(int(asked.headers.get("content-length", 0)))
        self.asked.append(asked._replace(body=json.loads(body) if body else None))

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            await reader.read()
        self.left.set()

    async def _do(self, step: Step, writer: asyncio.StreamWriter) -> None:
        match step:
            case Endless():
                while True:
                    await self._send(step, writer)
            case bytes():
                await self._send(step, writer)
            case asyncio.Event():
                await step.wait()
            case Then.CUT:
                writer.transport.abort()
            case Then.STALL:
                await self.left.wait()

    async def _send(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        self.sent += len(data)


@asynccontextmanager
async def model_server() -> AsyncGenerator[ModelServer]:
    server = ModelServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
