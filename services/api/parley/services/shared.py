"""What the processes share through Redis, as long as it answers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import TypeVar

import structlog

from parley.core.errors import Full, Unavailable
from parley.core.metrics import REDIS_AWAY, REDIS_OUTAGES
from parley.core.tasks import cancel
from parley.crud.ports import Common, Place, Stretch

COOL_DOWN_SECONDS = 1.0
FULL_AGAIN_SECONDS = 60.0

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")


class Shared:
    """
    Asks, and once nothing has answered asks no more: nobody waits for a second time-out.

    One background probe, and no user's request, finds out when it is back. One that refuses for want
    of room does answer: what is refused to the stream log is none of the limits'.
    """

    def __init__(self, common: Common) -> None:
        self._common = common
        self._probing: asyncio.Task[None] | None = None
        self._warn_at = 0.0

    @property
    def is_away(self) -> bool:
        return self._probing is not None

    async def ask(self, question: Callable[[Common], Awaitable[Answer]]) -> Answer | None:
        """None where there is no answer: the process has to do by itself."""
        try:
            return await self.demand(question)
        except Unavailable:
            return None

    async def demand(self, question: Callable[[Common], Awaitable[Answer]]) -> Answer:
        """
        Raises:
            Full: what was to be written was refused.
            Unavailable: there is no answer.
        """
        if self.is_away:
            raise Unavailable
        try:
            return await question(self._common)
        except Full:
            self._warn()
            raise
        except Unavailable:
            if not self.is_away:
                # In a context of its own: it is no part of the request that met the outage.
                self._probing = asyncio.create_task(self._until_it_answers(), context=Context())
            raise

    async def close(self) -> None:
        if self._probing is not None:
            await cancel(self._probing)
        await self._common.close()

    def _warn(self) -> None:
        """Once in a while: there are thirty refusals a second."""
        now = asyncio.get_running_loop().time()
        if now >= self._warn_at:
            self._warn_at = now + FULL_AGAIN_SECONDS
            log.warning("redis-full")

    async def _until_it_answers(self) -> None:
        log.warning("redis-away", limits="in-process")
        REDIS_OUTAGES.inc()
        REDIS_AWAY.set(1)
        try:
            while not await self._answers():
                pass
            log.info("redis-back")
        finally:
            REDIS_AWAY.set(0)
            self._probing = None

    async def _answers(self) -> bool:
        await asyncio.sleep(COOL_DOWN_SECONDS)
        try:
            await self._common.ping()
        except Unavailable:
            return False
        return True


class SharedStreamLog:
    """The stream log that all processes have in Redis."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def append(self, stretches: Sequence[Stretch]) -> Sequence[int]:
        return await self._shared.demand(lambda common: common.events.append(stretches))

    async def read(self, places: Sequence[Place]) -> Sequence[Stretch]:
        return await self._shared.demand(lambda common: common.events.read(places))
