"""Answers that their client does not read, over real sockets in this process."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from io import StringIO

import pytest
import uvicorn
from fastapi import FastAPI
from httpx import AsyncClient
from uvicorn.server import ServerState

from parley.cli import protocol
from parley.cli.protocol import BoundedProtocol
from parley.core.settings import Settings
from parley.crud.ports import Store
from parley.schemas.conversations import Conversation
from tests.conftest import SECRET
from tests.factories import make_conversation, record
from tests.responders import Gated
from tests.wire import Wire

CHAT = "/api/v1/me/chat"


@pytest.fixture
def backend() -> str:
    return "memory"


@pytest.fixture
def responder() -> Gated:
    """More than the kernel keeps here, and a transport without pausing."""
    return Gated("x" * 150_000)


@dataclass(frozen=True)
class Served:
    port: int
    state: ServerState


@pytest.fixture
async def served(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Served]:
    monkeypatch.setattr(protocol, "WRITE_STALL_SECONDS", 0.1)
    config = uvicorn.Config(app, log_config=None)
    state = ServerState()
    listener = socket.create_server(("127.0.0.1", 0))
    # Those that it accepts have it too.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server = await asyncio.get_running_loop().create_server(
        lambda: BoundedProtocol(config=config, server_state=state, app_state={}), sock=listener
    )
    async with server:
        yield Served(listener.getsockname()[1], state)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


def request(headers: dict[str, str], **body: object) -> bytes:
    content = json.dumps(body)
    lines = [f"POST {CHAT} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(content)}", *(f"{n}: {v}" for n, v in headers.items())]
    return "\r\n".join([*lines, "", content]).encode()


@pytest.mark.parametrize("answer", ["stream", "reply", "last reply"])
async def test_it_is_cut_off_and_its_turn_goes_on(
    served: Served,
    app: FastAPI,
    client: AsyncClient,
    bearer: Callable[[str], dict[str, str]],
    alice: str,
    responder: Gated,
    logged: StringIO,
    answer: str,
):
    headers = bearer(alice) | ({"Connection": "close"} if answer == "last reply" else {})
    is_stream = answer == "stream"
    if not is_stream:
        responder.gate.set()
    with Wire(served.port, window_bytes=4096) as wire:
        wire.send(request(headers, message="hi", stream=is_stream))
        await until(wire.is_cut_off)
        await until(lambda: not served.state.tasks)

    assert is_stream == app.state.runner.is_busy
    assert set() == served.state.connections
    responder.gate.set()
    await until(lambda: not app.state.runner.is_busy)
    (conversation,) = (await client.get("/api/v1/conversations", headers=bearer(alice))).json()[
        "items"
    ]
    assert 2 == conversation["length"]
    assert "request-crashed" not in logged.getvalue()
    assert "Exception in ASGI application" not in logged.getvalue()


class TestExport:
    """In pages of two turns, of which each is more than anybody keeps for a client."""

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(auth_secret=SECRET, streams_max_per_user=1)

    @pytest.fixture
    async def conversation(
        self, app: FastAPI, store: Store, alice: str, monkeypatch: pytest.MonkeyPatch
    ) -> Conversation:
        monkeypatch.setattr("parley.services.conversations.EXPORT_PAGE_MESSAGES", 4)
        conversation = await make_conversation(store, alice)
        for _ in range(6):
            await record(store, alice, conversation.id, "x" * 32_000)
        return conversation

    @pytest.fixture
    def export(
        self, bearer: Callable[[str], dict[str, str]], alice: str, conversation: Conversation
    ) -> bytes:
        path = f"/api/v1/conversations/{conversation.id}/export"
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in bearer(alice).items()]
        return "\r\n".join([*lines, "", ""]).encode()

    @pytest.mark.parametrize("is_deleted", [False, True])
    async def test_one_that_cannot_go_on_ends_without_its_last_chunk(
        self,
        served: Served,
        export: bytes,
        store: Store,
        alice: str,
        conversation: Conversation,
        monkeypatch: pytest.MonkeyPatch,
        logged: StringIO,
        *,
        is_deleted: bool,
    ):
        monkeypatch.setattr(protocol, "WRITE_STALL_SECONDS", 30)
        with Wire(served.port, window_bytes=4096) as wire:
            wire.send(export)
            raw = await asyncio.to_thread(wire.some)
            if is_deleted:
                async with store.begin(alice) as tx:
                    await tx.conversations.delete(conversation.id)
            raw += await asyncio.to_thread(wire.rest)

        assert b"transfer-encoding: chunked" in raw.partition(b"\r\n\r\n")[0].lower()
        assert (4 if is_deleted else 12) == raw.count(b'"position":')
        assert is_deleted is not raw.endswith(b"\r\n0\r\n\r\n")
        assert is_deleted is ('"event": "answer-broken-off"' in logged.getvalue())
        assert "request-crashed" not in logged.getvalue()

    @pytest.mark.parametrize("hangs_up", [False, True])
    async def test_for_who_hangs_up_or_reads_nothing_it_ends_and_the_slot_is_free(
        self, served: Served, app: FastAPI, export: bytes, alice: str, *, hangs_up: bool
    ):
        with Wire(served.port, window_bytes=4096) as wire:
            wire.send(export)
            await until(lambda: bool(served.state.tasks))
            if hangs_up:
                await asyncio.to_thread(wire.some)
                wire.reset()
            await until(lambda: not served.state.tasks)

        (await app.state.services.streams.take(alice)).leave()
