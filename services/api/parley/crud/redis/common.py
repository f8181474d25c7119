from contextlib import suppress

from parley.core.errors import Unavailable
from parley.crud.redis.connection import connect, in_time
from parley.crud.redis.events import RedisStreamLog
from parley.crud.redis.limits import RedisLimiter
from parley.crud.redis.streams import RedisSlots

PREFIX = "parley"


class RedisCommon:
    """Opens nothing yet: the first question does."""

    def __init__(self, url: str, *, retention_seconds: int, prefix: str = PREFIX) -> None:
        self._client = connect(url)
        self.limiter = RedisLimiter(self._client, prefix=f"{prefix}:limit")
        self.slots = RedisSlots(self._client, prefix=f"{prefix}:streams")
        self.events = RedisStreamLog(
            self._client, prefix=f"{prefix}:events", retention_seconds=retention_seconds
        )

    async def ping(self) -> None:
        async with in_time():
            await self._client.ping()

    async def close(self) -> None:
        # A server that is away is no reason to stop badly.
        with suppress(Unavailable):
            async with in_time():
                await self._client.aclose()
