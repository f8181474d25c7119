"""How large a body may be, and how long it may be waited for; by a clock of the test's own."""

import asyncio

import pytest
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message

from parley.core.errors import BodyTimeout, FileTooLarge
from parley.middleware.body import Allowance, Body

SECONDS = 10.0


class Client:
    """Each of its pieces comes `after` so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scope = {"type": "http", "state": {}}
        self.after = 0.0
        self.piece = b"x" * 100
        self._now = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self._now)

    async def receive(self) -> Message:
        self._now += self.after
        # What is due by then comes first.
        for _ in range(3):
            await asyncio.sleep(0)
        return {"type": "http.request", "body": self.piece, "more_body": True}

    def body(self, allowance: Allowance) -> Body:
        headers = Headers({"Transfer-Encoding": "chunked"})
        return Body(self.scope, self.receive, headers, allowance)


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    return Client(monkeypatch)


async def refusal_of(client: Client, body: Body) -> object:
    with pytest.raises(HTTPException):
        await body.receive()
    return client.scope["state"]["refusal"]


async def test_it_may_be_waited_for_so_long_altogether(client: Client):
    body = client.body(Allowance(10_000, SECONDS))
    client.after = 0.6 * SECONDS

    assert client.piece == (await body.receive())["body"]
    assert isinstance(await refusal_of(client, body), BodyTimeout)


async def test_what_comes_fast_enough_may_take_as_long_as_it_likes(client: Client):
    body = client.body(Allowance(10_000, SECONDS, bytes_per_second=10))
    client.after = 0.9 * SECONDS

    for _ in range(10):
        assert client.piece == (await body.receive())["body"]


async def test_what_comes_too_slowly_may_not(client: Client):
    body = client.body(Allowance(10_000, SECONDS, bytes_per_second=50))
    client.after = 0.6 * SECONDS

    await body.receive()
    assert isinstance(await refusal_of(client, body), BodyTimeout)


async def test_what_came_fast_buys_no_longer_silence(client: Client):
    body = client.body(Allowance(10_000, SECONDS, bytes_per_second=1))
    await body.receive()
    client.after = 1.1 * SECONDS

    assert isinstance(await refusal_of(client, body), BodyTimeout)


async def test_one_that_is_too_large_is_refused_in_the_words_of_its_allowance(client: Client):
    body = client.body(Allowance(10, SECONDS, refusal=lambda: FileTooLarge(10)))

    assert isinstance(await refusal_of(client, body), FileTooLarge)
