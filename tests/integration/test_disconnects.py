"""Clients that hang up at any moment, on real sockets: nothing of theirs stays behind."""
# ruff: noqa: SLF001 - what stays behind is nothing that anybody is told of

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from time import monotonic

import pytest
import uvicorn
from fastapi import FastAPI

from parley.cli.protocol import BoundedProtocol
from parley.core.settings import Settings
from parley.crud.memory.streams import MemoryStreamLog
from parley.crud.ports import Store
from parley.dependencies.services import Services
from parley.schemas.health import Pool
from parley.services.responders.base import PromptMessage
from tests.conftest import SECRET
from tests.factories import make_conversation
from tests.responders import Gated

DISCONNECTS = 200
AT_ONCE = 20
# About as much as an answer is, so that some leave before its first byte, and some behind its last.
BYTES_MAX = 2500
SECONDS_MAX = 0.4
PATIENCE_SECONDS = 60
RETENTION_SECONDS = 600
OF_A_PROCESS = {"Worker._keep_renewing", "CancelWatch._watch", "Relay._keep_moving"}


class Unhurried:
    async def stream(self, prompt: Sequence[PromptMessage], model: str) -> AsyncGenerator[str]:
        for number in range(20):
            await asyncio.sleep(0.002)
            yield f"word-{number} "


@pytest.fixture
def settings() -> Settings:
    return Settings(
        auth_secret=SECRET,
        rate_limit_chat="10000/minute",
        streams_max_per_user=DISCONNECTS,
        stream_retention_seconds=RETENTION_SECONDS,
    )


@pytest.fixture
def responder() -> Unhurried:
    return Unhurried()


@asynccontextmanager
async def served(app: FastAPI) -> AsyncGenerator[int]:
    """In this loop, with our protocol; yields the port."""
    server = uvicorn.Server(
        uvicorn.Config(
            app, port=0, http=BoundedProtocol, lifespan="off", ws="none", log_config=None
        )
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


class Requests:
    def __init__(self, token: str) -> None:
        self._token = token

    def post(self, body: dict[str, object], key: str = "") -> bytes:
        content = json.dumps(body)
        length = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        headers = length | ({"Idempotency-Key": key} if key else {})
        return self.head("POST", "/me/chat", **headers) + content.encode()

    def head(self, method: str, path: str, **headers: str) -> bytes:
        always = {"Host": "localhost", "Authorization": self._token}
        lines = [f"{name}: {value}" for name, value in (always | headers).items()]
        return "\r\n".join([f"{method} /api/v1{path} HTTP/1.1", *lines, "", ""]).encode()


class Leavers:
    """They ask for a turn, or for the events of one, and are gone at a random moment."""

    def __init__(self, port: int, token: str, conversation_id: str) -> None:
        self._port = port
        self._asking = Requests(token)
        self._conversation_id = conversation_id
        self._random = Random(20)  # noqa: S311 - a seed
        self._turn_ids: list[str] = []
        self.cut_short = 0

    async def come_and_go(self, count: int) -> None:
        entrance = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with entrance:
                await self._ask_and_leave(self._request(number))

        await asyncio.gather(*map(one, range(count)))

    def _request(self, number: int) -> bytes:
        match number % 4:
            case 0 if self._turn_ids:
                turn_id = self._random.choice(self._turn_ids)
                return self._asking.head("GET", f"/turns/{turn_id}/events?after={number % 7}")
            case 1:  # two of three ask for a turn that was asked for before
                return self._asking.post({"message": "hi", "stream": True}, key=str(number // 12))
            case 2:
                busy = {"conversation_id": self._conversation_id, "if_busy": "wait"}
                return self._asking.post({"message": "hi", **busy})
            case _:
                return self._asking.post({"message": "hi", "stream": True})

    async def _ask_and_leave(self, request: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        is_whole = self._random.random() < 0.9
        writer.write(request if is_whole else request[: len(request) // 2])
        answer, enough = b"", self._random.randint(0, BYTES_MAX)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._random.uniform(0, SECONDS_MAX)):
                while len(answer) < enough and (piece := await reader.read(100)):
                    answer += piece
        self.cut_short += b"event: done" not in answer
        self._turn_ids += re.findall(r'"turn_id":"([^"]+)"', answer.decode())[:1]
        if self._random.random() < 0.5:
            linger = struct.pack("ii", 1, 0)  # a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()


def is_in_use(pool: Pool | None) -> bool:
    return pool is not None and pool.in_use > 0


class TestDisconnects:
    async def test_two_hundred_leave_everything_as_it_was(
        self, app: FastAPI, store: Store, alice: str, bearer, monkeypatch: pytest.MonkeyPatch
    ):
        services: Services = app.state.services
        conversation = await make_conversation(store, alice)
        token = bearer(alice)["Authorization"]
        async with served(app) as port:
            # One of the process's own may be among them that just ends: a session that closes.
            before = asyncio.all_tasks()
            leavers = Leavers(port, token, str(conversation.id))
            await leavers.come_and_go(DISCONNECTS)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (
                    asyncio.all_tasks() - before
                    or services.relay._carried
                    or is_in_use(store.pool())
                ):
                    await asyncio.sleep(0.02)

            running = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}
            assert running >= OF_A_PROCESS
            assert leavers.cut_short > DISCONNECTS / 2
            assert not app.state.runner.is_busy
            assert {} == services.relay._followed
            assert {} == services.streams._held
            assert {} == services.limits.keyed.inside
            assert 0 == len(services.chat._queues._queues)
            assert 0 == len(services.chat._starter.acceptance._queues._queues)

            log = services.relay._log
            assert isinstance(log, MemoryStreamLog)
            assert len(log._logs) > DISCONNECTS / 4
            monkeypatch.setattr(log, "_clock", lambda: monotonic() + RETENTION_SECONDS + 1)
            await log.append([])
            assert ({}, 0) == (log._logs, log._size)


class TestTurnThatGoesOn:
    @pytest.fixture
    def responder(self) -> Gated:
        return Gated("first ")

    async def test_who_leaves_gives_a_place_back_at_once(
        self, app: FastAPI, responder: Gated, alice: str, bearer
    ):
        streams = app.state.services.streams
        async with served(app) as port:
            asking = Requests(bearer(alice)["Authorization"])
            _, first = await asyncio.open_connection("127.0.0.1", port)
            first.write(asking.post({"message": "hi", "stream": True}))
            await responder.asked.wait()
            before = asyncio.all_tasks()
            (live,) = app.state.runner._running.values()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(asking.head("GET", f"/turns/{live.turn.id}/events"))
            await reader.readuntil(b"first ")
            assert 1 == len(streams._held[f"{alice}/reading"])
            writer.transport.abort()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while asyncio.all_tasks() - before:
                    await asyncio.sleep(0.01)
            assert [alice] == [*streams._held]
            responder.gate.set()
            first.transport.abort()
