from limits.aio.storage.redis.bridge import RedisBridge
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from parley.crud.redis.connection import TAKES_ROOM_ALWAYS, in_time
from parley.schemas.limits import Quota, Standing, Window


class RedisLimiter:
    """
    Counts for all processes, by Redis' own clock: theirs may differ.

    The two scripts are those of the library `limits` for its sliding window counter. Its own
    strategy sends them one after the other; here both go at once, in one round trip.
    """

    def __init__(self, client: Redis, *, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._acquire, self._read = (
            client.register_script(TAKES_ROOM_ALWAYS.encode() + script)
            for script in (
                RedisBridge.SCRIPT_ACQUIRE_SLIDING_WINDOW,
                RedisBridge.SCRIPT_SLIDING_WINDOW,
            )
        )

    async def hit(self, quota: Quota, key: str) -> Standing:
        # Another rate counts anew. Of one slot, for the script touches both (as `limits` has it).
        current = f"{{{self._prefix}:{quota.name}:{quota.amount}:{quota.seconds}:{key}}}"
        async with in_time():
            try:
                is_admitted, window = await self._ask(quota, f"{current}/-1", current)
            except NoScriptError:
                # In this order: who meanwhile finds the one that counts finds both, and counts once.
                await self._client.script_load(self._read.script)
                await self._client.script_load(self._acquire.script)
                is_admitted, window = await self._ask(quota, f"{current}/-1", current)
        return window.standing(quota, is_admitted=is_admitted)

    async def _ask(self, quota: Quota, *keys: str) -> tuple[bool, Window]:
        async with self._client.pipeline(transaction=False) as both:
            both.evalsha(self._acquire.sha, 2, *keys, str(quota.amount), str(quota.seconds), "1")
            both.evalsha(self._read.sha, 2, *keys, str(quota.seconds))
            is_admitted, (previous, previous_ms, current, current_ms) = await both.execute()
        # A count lives for two windows: in the second it is the one before.
        window = Window(
            int(previous or 0),
            max(0, previous_ms) / 1000,
            int(current or 0),
            max(0, current_ms) / 1000 - quota.seconds,
        )
        return bool(is_admitted), window
