from collections.abc import Collection, Mapping
from uuid import UUID

from redis.asyncio import Redis

from parley.crud.ports import SLOT_SECONDS
from parley.crud.redis.connection import TAKES_ROOM_ALWAYS, in_time

# A set for each holder: a slot's score is when it runs out, by Redis' own clock.
_NOW = f"""{TAKES_ROOM_ALWAYS}
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
"""
_TAKE = f"""{_NOW}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
"""
_KEEP = f"""{_NOW}
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""


class RedisSlots:
    def __init__(self, client: Redis, *, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._take = client.register_script(_TAKE)

    async def take(self, holder: str, slot: UUID, limit: int) -> bool:
        async with in_time():
            taken = await self._take([self._key(holder)], [SLOT_SECONDS, limit, slot.hex])
        return bool(taken)

    async def keep(self, held: Mapping[str, Collection[UUID]]) -> None:
        async with in_time(), self._client.pipeline(transaction=False) as all_at_once:
            for holder, slots in held.items():
                ids = [slot.hex for slot in slots]
                all_at_once.eval(_KEEP, 1, self._key(holder), str(SLOT_SECONDS), *ids)
            await all_at_once.execute()

    async def give_back(self, slots: Collection[tuple[str, UUID]]) -> None:
        async with in_time(), self._client.pipeline(transaction=False) as all_at_once:
            for holder, slot in slots:
                all_at_once.zrem(self._key(holder), slot.hex)
            await all_at_once.execute()

    def _key(self, holder: str) -> str:
        return f"{self._prefix}:{holder}"
