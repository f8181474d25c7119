"""Whatever a test of this folder does: what it says, and what it proves itself with, is in no log."""

import json
import re
from collections.abc import Generator, Iterator
from typing import Any

import httpx
import pytest

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
    yield from request.url.params.values()
    for header in ("Authorization", "Cookie", "Idempotency-Key"):
        yield request.headers.get(header, "").removeprefix("Bearer ")
    if "json" in request.headers.get("Content-Type", ""):
        try:
            yield from _words(json.loads(request.content))
        except (httpx.RequestNotRead, ValueError):
            return  # it is sent piece by piece, or is no JSON


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """At DEBUG, where the test does not say otherwise."""
    said = set[str]()
    handle_request = httpx.HTTPTransport.handle_request

    def listen(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        said.update(_canaries_of(request))
        return handle_request(transport, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", listen)
    yield
    canaries = {word for word in said if not _NO_CANARY.fullmatch(word)}
    for log in Server.logs:
        if log.exists():
            logged = log.read_text()
            assert [] == [word for word in canaries if _as_logged(word) in logged], log
            assert [] == _TOKEN.findall(logged), log


def _as_logged(word: str) -> str:
    """As it is in a line of JSON, without its quotes."""
    return json.dumps(word)[1:-1]
