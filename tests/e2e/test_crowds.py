"""A thousand streams of one worker that has one database connection, and readers who do not read."""

import asyncio
import json
import resource
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.databases import connected
from tests.events import parse
from tests.processes import PATIENCE_SECONDS, SLOW_SERVER, Server, account
from tests.wire import Wire

# A thousand clients and their server on one machine, which may be busy with other tests too.
pytestmark = pytest.mark.timeout(600)

CROWD = 1000
# So few at a time that hardly one waits two seconds for the one connection, and is told to come again.
ARRIVING_AT_ONCE = 20
FIRST = 'data: {"text":"first "}\n\n'
HEARTBEAT = ":\n\n"
# Who takes nothing is not cut off before the test is over: whoever waited for them would wait in vain.
NEVER_SECONDS = 3600


@pytest.fixture(autouse=True)
def many_files() -> Generator[None]:
    """For both ends: what a test starts has its limits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def serving(folder: Path, database_url: str, *, times: int) -> Server:
    return Server(
        folder,
        *SLOW_SERVER,
        DATABASE_URL=database_url,
        DATABASE_POOL_SIZE="1",
        WEB_CONCURRENCY="1",
        STREAMS_MAX_PER_USER=str(CROWD + 1),
        REPLY_MAX_CHARACTERS="10000000",
        TEST_TIMES=str(times),
        TEST_STALL_SECONDS=str(NEVER_SECONDS),
    )


@pytest.fixture
def server(tmp_path: Path, postgres) -> Generator[Server]:
    with serving(tmp_path, postgres.api, times=20) as server:
        yield server


@pytest.fixture
def asking(server: Server) -> Callable[[], httpx.AsyncClient]:
    """Makes clients of one account, a connection each: what httpx keeps of many is looked through each time."""
    with account(server.url) as client:
        headers = client.headers
    return lambda: httpx.AsyncClient(
        base_url=f"{server.url}/api/v1",
        headers=headers,
        timeout=PATIENCE_SECONDS,
        transport=httpx.AsyncHTTPTransport(verify=False),
        trust_env=False,
    )


@asynccontextmanager
async def opened(
    client: httpx.AsyncClient, request: dict[str, Any]
) -> AsyncGenerator[httpx.Response]:
    """Who is told that the machine is busy comes again when it is said, as every client has to."""
    while True:
        async with client.stream(**request) as stream:
            if stream.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                assert stream.is_success, (await stream.aread()).decode()
                yield stream
                return
        await asyncio.sleep(int(stream.headers["Retry-After"]))


async def read_at_once(
    asking: Callable[[], httpx.AsyncClient], go: Path, requests: Sequence[dict[str, Any]]
) -> list[str]:
    """What each of the streams says; `go` is there as soon as all of them are open."""
    arriving = asyncio.Semaphore(ARRIVING_AT_ONCE)
    expected = len(requests)

    async def read(request: dict[str, Any]) -> str:
        nonlocal expected
        await arriving.acquire()
        async with asking() as client, opened(client, request) as stream:
            pieces, text = stream.aiter_text(), ""
            while FIRST not in text:
                text += await anext(pieces)
            arriving.release()
            expected -= 1
            if expected == 0:
                go.touch()
            rest = [piece async for piece in pieces]
        return "".join([text, *rest]).replace(HEARTBEAT, "")

    return await asyncio.gather(*map(read, requests))


class TestThousandStreams:
    async def test_of_one_worker_with_one_connection_all_come_to_their_ends(
        self, asking, tmp_path: Path, postgres
    ):
        messages = [f"number {n}" for n in range(CROWD)]
        requests = [
            {"method": "POST", "url": "/me/chat", "json": {"message": m, "stream": True}}
            for m in messages
        ]
        read = await read_at_once(asking, tmp_path / "go", requests)
        streams = [parse(text) for text in read]
        async with connected(postgres.admin) as admin:
            recorded = await admin.fetch("SELECT content FROM messages WHERE role = 'assistant'")
            running = await admin.fetchval("SELECT count(*) FROM turns WHERE status = 'running'")

        assert {"done"} == {events[-1].name for events in streams}
        replies = [f"first {f're: {message}' * 20}" for message in messages]
        assert replies == [
            "".join(e.data["text"] for e in events if e.name == "delta") for events in streams
        ]
        assert (sorted(replies), 0) == (sorted(row["content"] for row in recorded), running)


class TestThousandReaders:
    async def test_of_one_turn_all_get_the_same_bytes(self, asking, tmp_path: Path):
        async with asking() as client:
            body = {"message": "hi", "stream": True}
            async with client.stream("POST", "/me/chat", json=body) as stream:
                pieces = stream.aiter_text()
                said = await anext(pieces)
                (started, *_) = parse(said)
                reading = {"method": "GET", "url": f"/turns/{started.data['turn_id']}/events"}
                found = await read_at_once(asking, tmp_path / "go", [reading] * CROWD)
                whole = said + "".join([piece async for piece in pieces])

        assert {whole.replace(HEARTBEAT, "")} == set(found)
        assert "done" == parse(whole)[-1].name


class TestWhoDoesNotRead:
    def test_keeps_neither_the_turn_nor_its_other_readers_waiting(self, tmp_path: Path, postgres):
        with (
            serving(tmp_path, postgres.api, times=200) as server,
            account(server.url) as client,
            Wire(server.port, window_bytes=4096) as asking,
            Wire(server.port, window_bytes=4096) as reading,
        ):
            token = client.headers["Authorization"]
            body = json.dumps({"message": "x" * 30_000, "stream": True})
            asking.send(request_of("POST", "/me/chat", token, body))
            path = f"/turns/{turn_id_in(until_first(asking))}"
            reading.send(request_of("GET", f"{path}/events", token))
            until_first(reading)
            (tmp_path / "go").touch()

            whole = parse(client.get(f"{path}/events").text)
            assert not asking.is_cut_off()
            assert not reading.is_cut_off()
        assert len("first ") + 200 * len("re: ") + 200 * 30_000 == len(
            whole[-1].data["reply"]["content"]
        )


def request_of(method: str, path: str, token: str, body: str = "") -> bytes:
    return (
        f"{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def until_first(wire: Wire) -> str:
    read = b""
    while FIRST.encode() not in read:
        read += wire.some()
    return read.decode()


def turn_id_in(text: str) -> str:
    return text.partition('"turn_id":"')[2].partition('"')[0]
