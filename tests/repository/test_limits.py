"""One suite for both places where is counted. Redis keeps what a test leaves: each has its own keys."""

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest
from redis.asyncio import Connection, Redis

from parley.core.ids import new_id
from parley.crud.memory.limits import MemoryLimiter
from parley.crud.ports import Limiter
from parley.crud.redis.common import RedisCommon
from parley.schemas.limits import Quota

QUOTA = Quota("chat", 5, 60)


@pytest.fixture
def prefix() -> str:
    return f"test-{new_id().hex}"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no outage; those have tests of their own."""
    monkeypatch.setattr("parley.crud.redis.connection.TIMEOUT_SECONDS", 10)


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def common(redis_url: str, prefix: str) -> AsyncGenerator[RedisCommon]:
    common = RedisCommon(redis_url, retention_seconds=60, prefix=prefix)
    yield common
    await common.close()


@pytest.fixture(params=["memory", "redis"])
def limiter(request: pytest.FixtureRequest) -> Limiter:
    if request.param == "memory":
        return MemoryLimiter()
    common: RedisCommon = request.getfixturevalue("common")
    return common.limiter


class TestHit:
    async def test_so_many_are_admitted_and_then_none(self, limiter: Limiter):
        standings = [await limiter.hit(QUOTA, "ann") for _ in range(7)]

        assert [True] * 5 + [False] * 2 == [standing.is_admitted for standing in standings]
        assert [4, 3, 2, 1, 0, 0, 0] == [standing.remaining for standing in standings]

    async def test_it_says_when_there_is_room_again(self, limiter: Limiter):
        began_at = time.monotonic()
        for _ in range(7):
            standing = await limiter.hit(QUOTA, "ann")
        took_seconds = time.monotonic() - began_at

        assert 59 - took_seconds <= standing.reset_seconds <= 60

    async def test_who_waits_as_long_as_told_is_admitted(self, limiter: Limiter):
        quota = Quota("chat", 2, 1)
        while (standing := await limiter.hit(quota, "ann")).is_admitted:
            pass

        await asyncio.sleep(standing.reset_seconds)

        assert (await limiter.hit(quota, "ann")).is_admitted

    async def test_of_many_at_once_so_many_are_admitted(self, limiter: Limiter):
        standings = await asyncio.gather(*(limiter.hit(QUOTA, "ann") for _ in range(30)))

        assert 5 == sum(standing.is_admitted for standing in standings)

    async def test_keys_quotas_and_rates_count_apart(self, limiter: Limiter):
        for _ in range(6):
            await limiter.hit(QUOTA, "ann")

        others = [
            await limiter.hit(QUOTA, "bob"),
            await limiter.hit(QUOTA._replace(name="address"), "ann"),
            await limiter.hit(QUOTA._replace(amount=6), "ann"),
            await limiter.hit(QUOTA._replace(seconds=3600), "ann"),
        ]

        assert all(standing.is_admitted for standing in others)


class TestRedis:
    async def test_scripts_that_are_being_loaded_count_nobody_twice(
        self, redis_url: str, redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
    ):
        """One who finds the first there and not the second asks again: with both."""
        first, second = (
            RedisCommon(redis_url, retention_seconds=60, prefix=prefix) for _ in range(2)
        )
        load, standings = Redis.script_load, []

        async def load_and_be_overtaken(client: Redis, script: str) -> str:
            digest = await load(client, script)
            if not standings:
                standings.append(None)
                standings[0] = await second.limiter.hit(QUOTA, "ann")
            return digest

        monkeypatch.setattr(Redis, "script_load", load_and_be_overtaken)
        await redis.script_flush()
        standings += [await first.limiter.hit(QUOTA, "ann") for _ in range(6)]

        assert 5 == sum(standing.is_admitted for standing in standings)
        for common in (first, second):
            await common.close()

    async def test_two_processes_share_a_count(self, redis_url: str, prefix: str):
        first, second = (
            RedisCommon(redis_url, retention_seconds=60, prefix=prefix) for _ in range(2)
        )

        standings = [
            await common.limiter.hit(QUOTA, "ann") for _ in range(3) for common in (first, second)
        ]

        assert [True] * 5 + [False] == [standing.is_admitted for standing in standings]
        await first.close()
        await second.close()

    async def test_every_key_expires(self, common: RedisCommon, redis: Redis, prefix: str):
        await common.limiter.hit(QUOTA, "ann")
        await common.slots.take("ann", new_id(), 1)
        await common.slots.keep({"ann": [new_id()], "bob": [new_id()]})

        keys = await redis.keys(f"*{prefix}*")

        assert 3 == len(keys)
        assert all([0 < await redis.ttl(key) <= 2 * QUOTA.seconds for key in keys])

    async def test_scripts_that_redis_has_forgotten_are_sent_again(
        self, common: RedisCommon, redis: Redis
    ):
        await common.limiter.hit(QUOTA, "ann")
        await common.slots.take("ann", new_id(), 1)
        await redis.script_flush()

        assert 3 == (await common.limiter.hit(QUOTA, "ann")).remaining
        assert not await common.slots.take("ann", new_id(), 1)

    async def test_who_leaves_needs_no_answer(
        self, common: RedisCommon, monkeypatch: pytest.MonkeyPatch
    ):
        await common.ping()

        async def hang(_: object) -> None:
            await asyncio.Event().wait()

        with monkeypatch.context() as patched:
            patched.setattr(Connection, "disconnect", hang)
            await common.close()
        await common.close()


class TestSlots:
    async def test_a_user_has_so_many_and_gets_another_for_one_given_back(
        self, common: RedisCommon
    ):
        first = new_id()
        assert await common.slots.take("ann", first, 2)
        assert await common.slots.take("ann", new_id(), 2)
        assert not await common.slots.take("ann", new_id(), 2)

        await common.slots.give_back([("ann", first)])

        assert await common.slots.take("ann", new_id(), 2)
        assert await common.slots.take("bob", new_id(), 2)

    async def test_of_many_at_once_so_many_get_one(self, common: RedisCommon):
        taken = await asyncio.gather(*(common.slots.take("ann", new_id(), 3) for _ in range(20)))

        assert 3 == sum(taken)

    async def test_a_slot_whose_process_is_silent_is_free(
        self, common: RedisCommon, redis: Redis, prefix: str
    ):
        await common.slots.take("ann", new_id(), 1)
        # As if it had been taken a minute ago.
        for slot in await redis.zrange(f"{prefix}:streams:ann", 0, -1):
            await redis.zincrby(f"{prefix}:streams:ann", -60, slot)

        assert await common.slots.take("ann", new_id(), 1)

    async def test_a_slot_that_is_kept_is_not(
        self, common: RedisCommon, redis: Redis, prefix: str
    ):
        slot = new_id()
        await common.slots.take("ann", slot, 1)
        await redis.zincrby(f"{prefix}:streams:ann", -60, slot.hex)

        await common.slots.keep({"ann": [slot]})

        assert not await common.slots.take("ann", new_id(), 1)

    async def test_what_redis_lost_is_there_again_once_it_is_kept(
        self, common: RedisCommon, redis: Redis, prefix: str
    ):
        slot = new_id()
        await common.slots.take("ann", slot, 1)
        await redis.delete(f"{prefix}:streams:ann")

        await common.slots.keep({"ann": [slot]})

        assert not await common.slots.take("ann", new_id(), 1)
