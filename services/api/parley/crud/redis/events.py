import json
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from parley.crud.ports import SILENCE_SECONDS_MAX, Place, Stretch
from parley.crud.redis.connection import in_time

# A stretch is what a turn said in some hundredths of a second: a reply of half an hour has its
# beginning still. Of a longer one whoever comes late gets the end alone.
ENTRIES_MAX = 50_000
ENTRIES_AT_ONCE = 10
# What follows a turn elsewhere reads its end, however soon it is to be forgotten.
_KEPT_SECONDS_MIN = 5

# An entry's id is how many pieces there are with it, so that it is known what follows, and
# writing again what was written is the same as once.
_APPEND = """
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local reached = 0
if #newest > 0 then reached = tonumber(string.match(newest[1][1], '^%d+')) end
if reached == tonumber(ARGV[1]) then
  redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[4], ARGV[2] .. '-0', 'pieces', ARGV[5])
  reached = tonumber(ARGV[2])
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return reached
"""


class RedisStreamLog:
    """A Redis stream for each turn. https://redis.io/docs/latest/develop/data-types/streams/"""

    def __init__(self, client: Redis, *, prefix: str, retention_seconds: int) -> None:
        self._client = client
        self._prefix = prefix
        self._retention_seconds = max(retention_seconds, _KEPT_SECONDS_MIN)

    async def append(self, stretches: Sequence[Stretch]) -> Sequence[int]:
        async with in_time(), self._client.pipeline(transaction=False) as all_at_once:
            for stretch in stretches:
                all_at_once.eval(_APPEND, 1, self._key(stretch), *self._entry(stretch))
            return [int(reached) for reached in await all_at_once.execute()]

    async def read(self, places: Sequence[Place]) -> Sequence[Stretch]:
        async with in_time(), self._client.pipeline(transaction=False) as all_at_once:
            for place in places:
                all_at_once.xrange(
                    self._key(place), f"({place.start}-0", "+", count=ENTRIES_AT_ONCE
                )
            found = await all_at_once.execute()
        return [_joined(place, entries) for place, entries in zip(places, found, strict=True)]

    def _entry(self, stretch: Stretch) -> tuple[str | bytes, ...]:
        stop = stretch.start + len(stretch.pieces) + stretch.is_last
        seconds = self._retention_seconds + (0 if stretch.is_last else SILENCE_SECONDS_MAX)
        said = json.dumps(
            [*stretch.pieces, *([None] if stretch.is_last else [])], ensure_ascii=False
        )
        # Whatever a piece is, it is not to keep those of others from being written.
        data = said.encode(errors="surrogatepass")
        return str(stretch.start), str(stop), str(seconds), str(ENTRIES_MAX), data

    def _key(self, of: Stretch | Place) -> str:
        return f"{self._prefix}:{of.user_id}:{of.turn_id.hex}"


def _joined(place: Place, entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> Stretch:
    pieces: list[str] = []
    for entry_id, fields in entries:
        said: list[Any] = json.loads(fields[b"pieces"].decode(errors="surrogatepass"))
        begins_at = int(entry_id.partition(b"-")[0]) - len(said)
        # Of the first some may be known: a log that was emptied is filled again in other portions.
        known = place.start + len(pieces) - begins_at
        if known < 0:
            break  # something between them is lost
        if said[-1] is None:
            return Stretch(*place, [*pieces, *said[known:-1]], is_last=True)
        pieces += said[known:]
    return Stretch(*place, pieces, is_last=False)
