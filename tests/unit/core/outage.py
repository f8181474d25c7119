"""A database that is down, as the tests of the breaker need it."""

import asyncio

import pytest

from parley.core.resilience import Breaker

PATIENCE_SECONDS = 60


class Database:
    """Answers a probe when the test says so, and how."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[None] = asyncio.Queue()
        self._answers: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.probes = 0
        self.most_at_once = 0
        self._at_once = 0

    async def ping(self) -> None:
        self.probes += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        self.asked.put_nowait(None)
        try:
            if error := await self._answers.get():
                raise error
        finally:
            self._at_once -= 1

    async def is_asked(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.asked.get()

    def answers(self, error: Exception | None = None) -> None:
        self._answers.put_nowait(error)


def fail(breaker: Breaker, times: int = 1, error: Exception | None = None) -> None:
    for _ in range(times):
        with pytest.raises(type(error or ConnectionRefusedError())):
            with breaker.guard():
                raise error or ConnectionRefusedError


async def probe_is_over(*, beside: asyncio.Task[None] | None = None) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task(), beside}
    if others:
        _, pending = await asyncio.wait(others, timeout=PATIENCE_SECONDS)
        assert set() == pending
