"""Asking an issuer for its keys, over a real socket."""

import asyncio
import gzip
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest

from parley.core.security.jwks import DOCUMENT_MAX_BYTES, Jwks
from parley.core.security.keys import KeyCache, KeysUnreadable
from tests.issuers import KeyServer, SigningKey, key_server

KEY = SigningKey("okp", "EdDSA")


@pytest.fixture
async def server() -> AsyncGenerator[KeyServer]:
    async with key_server(KEY) as server:
        yield server


@asynccontextmanager
async def asking(url: str) -> AsyncGenerator[Jwks]:
    jwks = Jwks(url)
    yield jwks
    await jwks.close()


async def refused(url: str) -> str:
    async with asking(url) as jwks:
        with pytest.raises(KeysUnreadable) as caught:
            await jwks.fetch()
    return str(caught.value)


async def test_the_keys_of_a_set_are_had(server: KeyServer):
    async with asking(f"{server.url}/.well-known/jwks.json?x=1") as jwks:
        assert {"okp"} == (await jwks.fetch()).keys()

    (request,) = server.asked
    assert request.startswith("GET /.well-known/jwks.json?x=1 HTTP/1.1")


async def test_many_tokens_at_once_ask_once(server: KeyServer):
    server.gate.clear()
    async with asking(server.url) as jwks:
        cache = KeyCache(jwks.fetch)
        waiting = [asyncio.create_task(cache.get("okp")) for _ in range(50)]
        while not server.asked:
            await asyncio.sleep(0.01)
        server.gate.set()

        assert all(await asyncio.gather(*waiting))
    assert 1 == len(server.asked)


async def test_its_keys_count_when_it_is_gone_and_new_ones_when_it_is_back(server: KeyServer):
    async with asking(server.url) as jwks:
        cache = KeyCache(jwks.fetch, max_age_seconds=0, cool_down_seconds=0)
        assert await cache.get("okp") is not None

        await server.stop()
        assert await cache.get("okp") is not None

        server.has(SigningKey("new", "EdDSA"))
        await server.start()
        assert await cache.get("new") is not None
        assert await cache.get("okp") is None


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_row_70_a_redirect_is_not_followed(server: KeyServer, status: str):
    async with key_server(KEY) as other:
        server.status, server.headers = status, {"Location": other.url}

        assert f"status {status[:3]}" == await refused(server.url)
        assert [] == other.asked


@pytest.mark.parametrize("status", ["201 Created", "204 No Content", "404 No", "500 Oh", "503 No"])
async def test_an_answer_that_is_not_200_counts_for_nothing(server: KeyServer, status: str):
    server.status = status

    assert f"status {status[:3]}" == await refused(server.url)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<!doctype html><title>Log in</title>", "no JSON"),
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"9" * 5_000, "no JSON"),
        (b'{"issuer": "https://a.test"}', "no key set"),
        (b"[]", "no key set"),
        (b" " * (DOCUMENT_MAX_BYTES + 1), "too large"),
        (b" " * 50_000_000, "too large"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_row_71_what_is_no_key_set_is_refused(server: KeyServer, body: bytes, reason: str):
    server.body = body

    assert reason == await refused(server.url)


async def test_row_71_nothing_is_decompressed(server: KeyServer):
    server.body = gzip.compress(b" " * 100_000_000)
    server.headers = {"Content-Encoding": "gzip"}

    assert "no JSON" == await refused(server.url)


async def test_row_71_one_that_says_nothing_is_given_up_on(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("parley.core.security.jwks.TIMEOUT_SECONDS", 0.1)
    server.gate.clear()

    assert await refused(server.url) in {"TimeoutError", "ReadTimeout"}


async def test_row_71_one_that_never_ends_is_given_up_on(monkeypatch: pytest.MonkeyPatch):
    """Each step of it is quick."""
    monkeypatch.setattr("parley.core.security.jwks.TIMEOUT_SECONDS", 0.3)

    gone = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        gone.set()

    dripping = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = dripping.sockets[0].getsockname()[1]
    async with asyncio.timeout(10):
        assert "TimeoutError" == await refused(f"http://127.0.0.1:{port}")
        await gone.wait()
    dripping.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/jwks", "ConnectError"),
        ("http://host:99999/jwks", "ConnectError"),
        ("http://é.\u2028/jwks", "InvalidURL"),
    ],
)
async def test_an_address_that_leads_nowhere_is_refused(url: str, reason: str):
    assert reason == await refused(url)
