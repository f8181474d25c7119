"""One address, or one user, cannot fill what everybody waits for: the hashing, and the database."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from io import StringIO
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from parley.core.errors import Overloaded
from parley.core.security.passwords import Passwords
from parley.services.conversations import ConversationService
from parley.services.limits import (
    ATTEMPTS_AT_ONCE,
    PASSWORD_CHANGES_AT_ONCE,
    SEARCHES_AT_ONCE,
)

LOGIN, REGISTER = "/api/v1/auth/login", "/api/v1/auth/register"
CHANGE = "/api/v1/auth/password"
ANN, BOB = "203.0.113.7", "198.51.100.1"
PATIENCE_SECONDS = 60
Try = Callable[..., Awaitable[Response]]


@pytest.fixture
def backend() -> str:
    return "memory"


class Gate:
    """In place of the hashing: who has come to it stays until it is opened, or told how it ends."""

    def __init__(self) -> None:
        self.come: asyncio.Queue[None] = asyncio.Queue()
        self.opened = asyncio.Event()
        self.error: Exception | None = None

    async def match(self, *_: object) -> bool:
        self.come.put_nowait(None)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.opened.wait()
        if self.error is not None:
            raise self.error
        return False

    async def wait_for(self, number: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(number):
                await self.come.get()


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(Passwords, "matches", gate.match)
    monkeypatch.setattr(Passwords, "hash", gate.match)
    return gate


@pytest.fixture
async def attempt(app: FastAPI) -> AsyncGenerator[Try]:
    """From an address, by a name that nobody has had yet."""
    clients: list[AsyncClient] = []

    async def attempt(address: str, path: str = LOGIN) -> Response:
        transport = ASGITransport(app, client=(address, 4711))
        clients.append(AsyncClient(transport=transport, base_url="http://test"))
        body = {"email": f"user{len(clients)}@example.com", "password": "not her password"}
        return await clients[-1].post(path, json=body)

    yield attempt
    for client in clients:
        await client.aclose()


@pytest.fixture
async def waiting(gate: Gate, attempt: Try) -> AsyncGenerator[list["asyncio.Task[Response]"]]:
    """As many from one address as may be."""
    paths = [LOGIN, REGISTER] * ATTEMPTS_AT_ONCE
    tasks = [asyncio.create_task(attempt(ANN, path)) for path in paths[:ATTEMPTS_AT_ONCE]]
    await gate.wait_for(ATTEMPTS_AT_ONCE)
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class TestAddress:
    @pytest.mark.parametrize("path", [LOGIN, REGISTER])
    @pytest.mark.usefixtures("waiting")
    async def test_one_more_is_refused_at_once_and_another_address_is_not(
        self, gate: Gate, attempt: Try, path: str
    ):
        refused = await attempt(ANN, path)
        another = asyncio.create_task(attempt(BOB, path))
        await gate.wait_for(1)

        assert (429, "rate-limited") == (refused.status_code, refused.json()["code"])
        assert "1" == refused.headers["Retry-After"]
        another.cancel()

    @pytest.mark.usefixtures("waiting")
    async def test_a_neighbour_in_the_same_network_is_one_with_it(self, gate: Gate, attempt: Try):
        attempts = [
            asyncio.create_task(attempt(f"2001:db8:1:2::{n}")) for n in range(ATTEMPTS_AT_ONCE)
        ]
        await gate.wait_for(ATTEMPTS_AT_ONCE)

        assert 429 == (await attempt("2001:db8:1:2:3::1")).status_code
        for task in attempts:
            task.cancel()

    @pytest.mark.usefixtures("waiting")
    async def test_a_refusal_is_audited_and_does_not_count_as_an_attempt(
        self, attempt: Try, logged: StringIO
    ):
        refused = await attempt(ANN)

        lines = [json.loads(line) for line in logged.getvalue().splitlines()]
        (line,) = [line for line in lines if line["event"] == "rate-limited"]
        assert ("address-at-once", ANN) == (line["limit"], line["client_address"])
        assert "RateLimit" not in refused.headers

    @pytest.mark.parametrize(
        "error", [None, Overloaded("Full."), RuntimeError("a bug")], ids=["no", "full", "bug"]
    )
    async def test_those_that_have_ended_leave_room(
        self,
        gate: Gate,
        attempt: Try,
        waiting: list["asyncio.Task[Response]"],
        error: Exception | None,
    ):
        gate.error = error
        gate.opened.set()
        await asyncio.gather(*waiting)

        assert 429 not in [(await attempt(ANN)).status_code for _ in range(ATTEMPTS_AT_ONCE)]

    async def test_so_do_those_that_were_cancelled(
        self, gate: Gate, attempt: Try, waiting: list["asyncio.Task[Response]"]
    ):
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        again = asyncio.create_task(attempt(ANN))
        await gate.wait_for(1)

        assert 429 == (await attempt(ANN)).status_code
        again.cancel()


class TestUser:
    async def test_passwords_are_changed_so_many_at_once(
        self,
        gate: Gate,
        client: AsyncClient,
        bearer: Callable[[str], dict[str, str]],
        alice: str,
        bob: str,
        logged: StringIO,
    ):
        async def change(user_id: str) -> Response:
            body = {"current": "a guess of somebody", "new": "another long password"}
            return await client.post(CHANGE, json=body, headers=bearer(user_id))

        hers = [asyncio.create_task(change(alice)) for _ in range(PASSWORD_CHANGES_AT_ONCE)]
        await gate.wait_for(PASSWORD_CHANGES_AT_ONCE)
        refused = await change(alice)
        his = asyncio.create_task(change(bob))
        await gate.wait_for(1)
        gate.opened.set()
        await asyncio.gather(*hers, his)

        assert (429, "1") == (refused.status_code, refused.headers["Retry-After"])
        assert '"limit": "password-at-once"' in logged.getvalue()
        assert 403 == (await change(alice)).status_code

    async def test_many_users_at_one_address_are_one(
        self,
        gate: Gate,
        attempt: Try,
        client: AsyncClient,
        bearer: Callable[[str], dict[str, str]],
        alice: str,
        bob: str,
    ):
        """An address may have as many accounts as it likes."""
        body = {"current": "a guess of somebody", "new": "another long password"}
        here = "127.0.0.1"
        inside = [
            asyncio.create_task(client.post(CHANGE, json=body, headers=bearer(user_id)))
            for user_id in (alice, bob) * PASSWORD_CHANGES_AT_ONCE
        ]
        inside += [asyncio.create_task(attempt(here)) for _ in range(ATTEMPTS_AT_ONCE - 4)]
        await gate.wait_for(ATTEMPTS_AT_ONCE)

        assert 429 == (await attempt(here)).status_code
        gate.opened.set()
        await asyncio.gather(*inside)

    async def test_conversations_are_searched_so_many_at_once(
        self,
        gate: Gate,
        client: AsyncClient,
        bearer: Callable[[str], dict[str, str]],
        alice: str,
        bob: str,
        logged: StringIO,
        monkeypatch: pytest.MonkeyPatch,
    ):
        list_them = ConversationService.newest

        async def slowly(self: ConversationService, *args: Any, **kwargs: Any) -> object:
            if kwargs["containing"]:
                await gate.match()
            return await list_them(self, *args, **kwargs)

        monkeypatch.setattr(ConversationService, "newest", slowly)

        async def search(user_id: str, **params: str) -> Response:
            return await client.get(
                "/api/v1/conversations", params=params, headers=bearer(user_id)
            )

        hers = [asyncio.create_task(search(alice, q="x")) for _ in range(SEARCHES_AT_ONCE)]
        await gate.wait_for(SEARCHES_AT_ONCE)
        refused, listed = await search(alice, q="y"), await search(alice)
        his = asyncio.create_task(search(bob, q="x"))
        await gate.wait_for(1)
        gate.opened.set()
        answers = await asyncio.gather(*hers, his)

        assert (429, "rate-limited", "1") == (
            refused.status_code,
            refused.json()["code"],
            refused.headers["Retry-After"],
        )
        (line,) = [line for line in logged.getvalue().splitlines() if '"rate-limited"' in line]
        assert ("search-at-once", alice) == (
            json.loads(line)["limit"],
            json.loads(line)["user_id"],
        )
        assert [200] * 5 == [a.status_code for a in (*answers, listed, await search(alice, q="z"))]
