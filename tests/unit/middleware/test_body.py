"""How long a body may be waited for."""

import asyncio

import pytest
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message

from parley.core.errors import BodyTimeout, FileTooLarge
from parley.middleware.body import Allowance, Body

SECONDS = 0.05


class Client:
    """Sends what it is told to, when it is."""

    def __init__(self) -> None:
        self.scope = {"type": "http", "state": {}}
        self._sent: asyncio.Queue[Message] = asyncio.Queue()

    def send(self, data: bytes) -> None:
        self._sent.put_nowait({"type": "http.request", "body": data, "more_body": True})

    def body(self, allowance: Allowance) -> Body:
        headers = Headers({"Transfer-Encoding": "chunked"})
        return Body(self.scope, self._sent.get, headers, allowance)


async def refusal_of(client: Client, body: Body) -> object:
    with pytest.raises(HTTPException):
        await body.receive()
    return client.scope["state"]["refusal"]


async def test_one_that_brings_nothing_is_given_up():
    client = Client()

    assert isinstance(await refusal_of(client, client.body(Allowance(1000, SECONDS))), BodyTimeout)


async def test_what_has_come_buys_more_time_where_it_does():
    client = Client()
    body = client.body(Allowance(10_000, SECONDS, bytes_per_second=1))
    client.send(b"x" * 100)
    await body.receive()

    waiting = asyncio.create_task(body.receive())
    await asyncio.wait([waiting], timeout=3 * SECONDS)
    client.send(b"y")

    assert b"y" == (await waiting)["body"]


async def test_elsewhere_it_buys_none():
    client = Client()
    body = client.body(Allowance(10_000, SECONDS))
    client.send(b"x" * 100)
    await body.receive()

    assert isinstance(await refusal_of(client, body), BodyTimeout)


async def test_one_that_is_too_large_is_refused_in_the_words_of_its_allowance():
    client = Client()
    body = client.body(Allowance(10, 30, refusal=lambda: FileTooLarge(10)))
    client.send(b"x" * 11)

    assert isinstance(await refusal_of(client, body), FileTooLarge)
