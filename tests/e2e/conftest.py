"""Whatever a test of this folder does: what it says, and what it proves itself with, is in no log."""

import json
import re
from collections.abc import Generator, Iterator
from contextlib import suppress
from time import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from httpx._multipart import MultipartStream

from tests.processes import Server

# Ids are logged, and a word of a few letters is in some other word.
_NO_CANARY = re.compile(r"[0-9a-f-]{36}|.{0,7}", re.DOTALL)
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_SAYING_NOTHING = {"model", "if_busy", "grant_type"}


def _words(value: Any, name: str = "") -> Iterator[str]:
    """Every text of a request's body."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _words(member, key)
    elif isinstance(value, list):
        for member in value:
            yield from _words(member, name)
    elif isinstance(value, str) and name not in _SAYING_NOTHING:
        yield value


def _canaries_of(request: httpx.Request) -> Iterator[str]:
    # As it was typed, and as it is sent.
    yield from request.url.params.values()
    yield request.url.query.decode()
    for header in ("Authorization", "Cookie", "Idempotency-Key"):
        yield request.headers.get(header, "").removeprefix("Bearer ")
    if isinstance(request.stream, MultipartStream):
        yield from _uploaded(request.stream)
    elif "json" in request.headers.get("Content-Type", ""):
        with suppress(
            httpx.RequestNotRead, ValueError
        ):  # it is sent piece by piece, or is no JSON
            yield from _words(json.loads(request.content))


def _uploaded(form: MultipartStream) -> Iterator[str]:
    for field in form.fields:
        yield getattr(field, "filename", None) or ""
        content = getattr(field, "file", b"")
        if isinstance(content, bytes):
            yield content[:1000].decode(errors="ignore")


def _secrets_of(server: Server) -> Iterator[str]:
    for name, value in server.variables.items():
        if name.endswith(("_SECRET", "_KEY", "_SECRET_PREVIOUS")):
            yield value
        elif name.endswith("_URL"):
            yield urlsplit(value).password or ""


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """At DEBUG, where the test does not say otherwise."""
    said, began_at = set[str](), time()
    handle, handle_async = (
        httpx.HTTPTransport.handle_request,
        httpx.AsyncHTTPTransport.handle_async_request,
    )

    def listen(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        said.update(_canaries_of(request))
        return handle(transport, request)

    async def listen_too(
        transport: httpx.AsyncHTTPTransport, request: httpx.Request
    ) -> httpx.Response:
        said.update(_canaries_of(request))
        return await handle_async(transport, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", listen)
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", listen_too)
    yield
    servers = [server for server in Server.made if server.has_logged_since(began_at)]
    said.update(secret for server in servers for secret in _secrets_of(server))
    canaries = {word for word in said if not _NO_CANARY.fullmatch(word)}
    for server in servers:
        assert [] == [word for word in canaries if _as_logged(word) in server.output], server.log
        assert [] == _TOKEN.findall(server.output), server.log


def _as_logged(word: str) -> str:
    """As it is in a line of JSON, without its quotes."""
    return json.dumps(word)[1:-1]
