import asyncio
import json
from collections.abc import AsyncGenerator
from io import StringIO
from typing import cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from parley.core import metrics
from parley.core.errors import Full, Unavailable
from parley.crud.ports import Common
from parley.services import shared as module
from parley.services.shared import Shared


class Redis:
    """Answers when the test says so, and counts how often it is asked, and pinged."""

    def __init__(self) -> None:
        self.is_there = True
        self.is_full = False
        self.asked = 0
        self.pinged = asyncio.Queue[None]()

    async def answer(self, _: Common) -> str:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.is_there:
            raise Unavailable
        if self.is_full:
            raise Full
        return "answer"

    async def ping(self) -> None:
        self.pinged.put_nowait(None)
        if not self.is_there:
            raise Unavailable

    async def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def short_cool_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COOL_DOWN_SECONDS", 0.01)


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
async def shared(redis: Redis) -> AsyncGenerator[Shared]:
    shared = Shared(cast("Common", redis))
    yield shared
    await shared.close()


async def until_back(shared: Shared) -> None:
    while shared.is_away:
        await asyncio.sleep(0.01)


def away() -> float:
    registry = CollectorRegistry()
    registry.register(metrics.REDIS_AWAY)
    return float(generate_latest(registry).decode().split()[-1])


class TestAsk:
    async def test_an_answer_is_passed_on(self, shared: Shared, redis: Redis):
        assert "answer" == await shared.ask(redis.answer)

    async def test_after_no_answer_it_is_asked_no_more(self, shared: Shared, redis: Redis):
        redis.is_there = False

        assert [None] * 10 == [await shared.ask(redis.answer) for _ in range(10)]
        assert 1 == redis.asked

    async def test_it_is_asked_again_once_a_probe_was_answered(self, shared: Shared, redis: Redis):
        redis.is_there = False
        await shared.ask(redis.answer)
        for _ in range(3):
            await redis.pinged.get()
        assert shared.is_away

        redis.is_there = True
        await until_back(shared)

        assert "answer" == await shared.ask(redis.answer)

    async def test_an_outage_is_logged_and_counted_once_however_many_met_it(
        self, shared: Shared, redis: Redis, logged: StringIO
    ):
        redis.is_there = False
        outages = metrics.REDIS_OUTAGES._value.get()  # noqa: SLF001 - counts from before are others'
        await asyncio.gather(*(shared.ask(redis.answer) for _ in range(10)))
        await redis.pinged.get()
        assert 1.0 == away()

        redis.is_there = True
        await until_back(shared)

        assert 0.0 == away()
        assert outages + 1 == metrics.REDIS_OUTAGES._value.get()  # noqa: SLF001 - as above
        events = [json.loads(line)["event"] for line in logged.getvalue().splitlines()]
        assert ["redis-away", "redis-back"] == events

    async def test_one_that_is_full_is_asked_on_and_said_to_be_so_once(
        self, shared: Shared, redis: Redis, logged: StringIO
    ):
        redis.is_full = True
        assert [None] * 10 == [await shared.ask(redis.answer) for _ in range(10)]
        assert (False, 10) == (shared.is_away, redis.asked)
        with pytest.raises(Full):
            await shared.demand(redis.answer)

        redis.is_full = False
        assert "answer" == await shared.ask(redis.answer)
        events = [json.loads(line)["event"] for line in logged.getvalue().splitlines()]
        assert ["redis-full"] == events

    async def test_a_bug_is_no_outage(self, shared: Shared):
        async def broken(_: Common) -> None:
            raise KeyError

        with pytest.raises(KeyError):
            await shared.ask(broken)

        assert not shared.is_away
