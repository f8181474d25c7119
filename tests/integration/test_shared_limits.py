"""Limits through Redis, and without it: an outage takes nobody's reply, and no limit."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from parley.core.errors import Full
from parley.core.ids import new_id
from parley.core.settings import Settings
from parley.crud.memory.store import MemoryStore
from parley.crud.ports import Place, Stretch
from parley.crud.redis.common import RedisCommon
from parley.main import create_app
from parley.services.shared import Shared
from parley.services.streams import StreamService
from tests.conftest import SECRET
from tests.factories import make_account
from tests.proxy import Proxy, proxied
from tests.responders import Gated
from tests.servers import redis_server

LOGIN, CHAT = "/api/v1/auth/login", "/api/v1/me/chat"
Bearer = Callable[[str], dict[str, str]]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no outage; those have a class of their own."""
    monkeypatch.setattr("parley.crud.redis.connection.TIMEOUT_SECONDS", 10)


@pytest.fixture
def address() -> str:
    """Of this test's own: Redis remembers those of others."""
    groups = new_id().hex[-16:]
    return ":".join(groups[n : n + 4] for n in (0, 4, 8, 12)) + "::1"


@pytest.fixture
async def alice() -> str:
    # In the tables that all these processes share.
    return await make_account(MemoryStore(), str(new_id()))


@pytest.fixture(scope="module")
def full_url() -> Generator[str]:
    with redis_server("--maxmemory", "1", "--maxmemory-policy", "noeviction") as url:
        yield url


@asynccontextmanager
async def process(
    redis_url: str, responder: Gated | None = None, streams_max: int = 20
) -> AsyncGenerator[FastAPI]:
    settings = Settings(
        auth_secret=SECRET,
        redis_url=redis_url,
        rate_limit_auth="9/hour",
        rate_limit_chat="5/hour",
        streams_max_per_user=streams_max,
    )
    app = create_app(settings, store=MemoryStore(), responder=responder)
    async with app.router.lifespan_context(app):
        yield app


def client_of(app: FastAPI, address: str = "127.0.0.1") -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app, client=(address, 1)), base_url="http://test")


async def guess(client: AsyncClient, email: str = "ann@example.com") -> int:
    body = {"email": email, "password": "not her password"}
    return (await client.post(LOGIN, json=body)).status_code


async def say(client: AsyncClient, headers: dict[str, str]) -> int:
    return (await client.post(CHAT, json={"message": "hi"}, headers=headers)).status_code


class TestTwoProcesses:
    async def test_they_share_the_limits(
        self, redis_url: str, address: str, bearer: Bearer, alice: str
    ):
        async with process(redis_url) as one, process(redis_url) as two:
            clients = [client_of(app, address) for app in (one, two)]

            said = [await say(client, bearer(alice)) for _ in range(3) for client in clients]
            guessed = [await guess(client) for _ in range(2) for client in clients]

        assert [200] * 5 + [429] == said
        assert [401] * 3 + [429] == guessed

    async def test_they_share_the_slots_and_give_them_back(
        self, redis_url: str, bearer: Bearer, alice: str
    ):
        gated = Gated()
        async with process(redis_url, gated, 2) as one, process(redis_url, gated, 2) as two:
            running = []
            for app in (one, two):
                gated.asked.clear()
                running.append(asyncio.create_task(say(client_of(app), bearer(alice))))
                await gated.asked.wait()
            refused = [await say(client_of(app), bearer(alice)) for app in (one, two)]
            gated.gate.set()
            ended = [await task for task in running]
            async with Redis.from_url(redis_url) as redis:
                while await redis.exists(f"parley:streams:{alice}"):
                    await asyncio.sleep(0.01)

        assert [429, 429] == refused
        assert [200, 200] == ended


class TestSlotsThatAreHeld:
    async def test_they_are_kept_as_long_as_they_are_held(self, redis_url: str, alice: str):
        prefix = f"test-{new_id().hex}"
        common = RedisCommon(redis_url, retention_seconds=60, prefix=prefix)
        shared = Shared(common)
        streams = StreamService(shared, max_per_user=1, renew_seconds=0.01)
        streams.start()
        slot = await streams.take(alice)

        async with Redis.from_url(redis_url) as redis:
            # Nobody has heard of the process that held it.
            await redis.delete(f"{prefix}:streams:{alice}")
            while not await redis.exists(f"{prefix}:streams:{alice}"):
                await asyncio.sleep(0.01)
            slot.leave()
            await streams.stop()
            assert not await redis.exists(f"{prefix}:streams:{alice}")
        await shared.close()


class TestFull:
    """Somebody has filled it, and what is refused to the stream log is none of the limits'."""

    async def test_limits_and_slots_are_common_all_the_same(
        self, full_url: str, address: str, bearer: Bearer, alice: str
    ):
        async with process(full_url) as one, process(full_url) as two:
            clients = [client_of(app, address) for app in (one, two)]
            said = [await say(client, bearer(alice)) for _ in range(3) for client in clients]
            guessed = [await guess(client) for _ in range(2) for client in clients]
            async with Redis.from_url(full_url) as redis:
                # Those of the turns are given back behind them.
                while await redis.exists(f"parley:streams:{alice}"):
                    await asyncio.sleep(0.01)
                slot = await one.state.services.streams.take(alice)
                assert 1 == await redis.zcard(f"parley:streams:{alice}")
                with pytest.raises(OutOfMemoryError):
                    await redis.set("more", "x")
            slot.leave()
            text = (await clients[0].get("/metrics")).text

        assert [200] * 5 + [429] == said
        assert [401] * 3 + [429] == guessed
        assert "parley_redis_away 0.0" in text

    async def test_slots_are_kept_too(self, full_url: str, alice: str):
        common = RedisCommon(full_url, retention_seconds=60)
        slot = new_id()
        await common.slots.keep({alice: [slot]})
        assert not await common.slots.take(alice, new_id(), 1)
        await common.close()

    async def test_what_it_refuses_is_no_outage(self, full_url: str, alice: str):
        common = RedisCommon(full_url, retention_seconds=60)
        with pytest.raises(Full):
            await common.events.append([Stretch(alice, new_id(), 0, ["x"], is_last=False)])
        assert [()] == [
            tuple(s.pieces) for s in await common.events.read([Place(alice, new_id(), 0)])
        ]
        await common.close()


class TestOutage:
    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Less so: an outage is found out by waiting for an answer."""
        monkeypatch.setattr("parley.crud.redis.connection.TIMEOUT_SECONDS", 2)

    @pytest.fixture
    async def proxy(self, redis_url: str) -> AsyncGenerator[tuple[Proxy, str]]:
        async with proxied(redis_url) as proxy_and_url:
            yield proxy_and_url

    @pytest.mark.parametrize("how", ["stopped", "frozen", "never there"])
    async def test_chat_and_login_go_on_and_stay_limited(
        self, proxy: tuple[Proxy, str], address: str, bearer: Bearer, alice: str, how: str
    ):
        wire, url = proxy
        if how == "never there":
            await wire.refuse()
        async with process(url) as app:
            client = client_of(app, address)
            users = [await make_account(MemoryStore(), str(new_id())) for _ in range(20)]
            await asyncio.gather(*(say(client, bearer(user)) for user in users))
            if how == "frozen":
                wire.freeze()
            elif how == "stopped":
                await wire.refuse()

            said = await asyncio.gather(*(say(client, bearer(alice)) for _ in range(12)))
            guessed = [await guess(client) for _ in range(5)]
            sprayed = [await guess(client, f"user{n}@example.com") for n in range(6)]

            assert "parley_redis_away 1.0" in (await client.get("/metrics")).text
        # No more than the limit, and no error. Those that ran at once may have met the other one.
        assert {200, 429} == set(said)
        assert 5 == said.count(200)
        assert [401] * 3 + [429] * 2 == guessed
        assert [401] * 4 + [429] * 2 == sprayed

    async def test_slots_are_limited_too(
        self, proxy: tuple[Proxy, str], bearer: Bearer, alice: str
    ):
        wire, url = proxy
        gated = Gated()
        async with process(url, gated, 2) as app:
            wire.freeze()
            running = []
            for _ in range(2):
                gated.asked.clear()
                running.append(asyncio.create_task(say(client_of(app), bearer(alice))))
                await gated.asked.wait()

            assert 429 == await say(client_of(app), bearer(alice))

            gated.gate.set()
            assert [200, 200] == [await task for task in running]

    @pytest.mark.parametrize("how", ["stopped", "frozen"])
    async def test_when_it_is_back_it_counts_for_all_again(
        self, proxy: tuple[Proxy, str], redis_url: str, bearer: Bearer, alice: str, how: str
    ):
        wire, url = proxy
        async with process(url) as app, process(redis_url) as other:
            client = client_of(app)
            assert 200 == await say(client, bearer(alice))
            if how == "frozen":
                wire.freeze()
            else:
                await wire.refuse()
            assert 200 == await say(client, bearer(alice))

            wire.thaw()
            if how == "stopped":
                await wire.serve()
            while app.state.services.shared.is_away:
                await asyncio.sleep(0.01)

            said = [await say(client_of(a), bearer(alice)) for _ in range(3) for a in (app, other)]
            # Of the five one was counted before the outage, and one in it: by the process alone, or
            # by a frozen server too, once it goes on with what it was sent.
            assert said.count(200) in {3, 4}
            assert [429, 429] == said[4:]
            assert "parley_redis_away 0.0" in (await client.get("/metrics")).text
