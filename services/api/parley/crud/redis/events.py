import json
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from parley.crud.ports import SILENCE_SECONDS_MAX, Place, Stretch
from parley.crud.redis.connection import in_time

# What all logs of one user may take, or two accounts that talk without a pause would fill what all
# share: a sixteenth of what Compose gives Redis, and ten of the longest replies as they are set.
USER_SIZE_MAX = 8_000_000
ENTRIES_AT_ONCE = 10
# What Redis needs for a log, however short, and for an entry, beside what is in them (measured).
_LOG_SIZE = 5000
_ENTRY_SIZE = 64
# What follows a turn elsewhere reads its end, however soon it is to be forgotten.
_KEPT_SECONDS_MIN = 5

# An entry's id is how many pieces there are with it, so that it is known what follows, and
# writing again what was written is the same as once.
#
# A hash for each user has the sizes of the logs. Where they are too much, those that have ended go,
# and those of a process that died long ago: it is seen by how soon they would have gone anyway. Then
# the beginning of this one goes. Its newest stays: the writer goes on from there. A quarter goes at
# once, for to look through the logs takes Redis some milliseconds where they are many.
_APPEND = f"""
local log, sizes = KEYS[1], KEYS[2]
local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
local reached = 0
if #newest > 0 then reached = tonumber(string.match(newest[1][1], '^%d+')) end
local is_taken = reached == tonumber(ARGV[1])
if is_taken then
  redis.call('XADD', log, ARGV[2] .. '-0', 'pieces', ARGV[7])
  reached = tonumber(ARGV[2])
end
redis.call('EXPIRE', log, ARGV[3])
if not is_taken then return reached end

local function add(name, size)
  redis.call('HINCRBY', sizes, name, size)
  return redis.call('HINCRBY', sizes, 'all', size)
end
local all = add(log, #ARGV[7] + {_ENTRY_SIZE} + (#newest == 0 and {_LOG_SIZE} or 0))
redis.call('EXPIRE', sizes, ARGV[5])
local most = tonumber(ARGV[6])
if all <= most then return reached end

local enough = 0.75 * most
local ended = {{}}
local known = redis.call('HGETALL', sizes)
for nth = 1, #known, 2 do
  local name = known[nth]
  if name ~= 'all' and name ~= log then
    local left = redis.call('PTTL', name)
    if left <= 1000 * ARGV[4] then table.insert(ended, {{name, left, -known[nth + 1]}}) end
  end
end
table.sort(ended, function(one, other) return one[2] < other[2] end)
for _, old in ipairs(ended) do
  if all <= enough then break end
  redis.call('DEL', old[1])
  all = add(old[1], old[3])
  redis.call('HDEL', sizes, old[1])
end
while all > enough and redis.call('XLEN', log) > 1 do
  local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  redis.call('XDEL', log, first[1])
  all = add(log, -(#first[2][2] + {_ENTRY_SIZE}))
end
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
                keys = self._key(stretch), f"{self._prefix}:{{{stretch.user_id}}}:sizes"
                all_at_once.eval(_APPEND, 2, *keys, *self._entry(stretch))
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
        ended_seconds = self._retention_seconds
        running_seconds = ended_seconds + SILENCE_SECONDS_MAX
        said = json.dumps(
            [*stretch.pieces, *([None] if stretch.is_last else [])], ensure_ascii=False
        )
        return (
            str(stretch.start),
            str(stop),
            str(ended_seconds if stretch.is_last else running_seconds),
            str(ended_seconds),
            str(running_seconds),
            str(USER_SIZE_MAX),
            # Whatever a piece is, it is not to keep those of others from being written.
            said.encode(errors="surrogatepass"),
        )

    def _key(self, of: Stretch | Place) -> str:
        # Of one slot for each user, for the script touches all of theirs.
        return f"{self._prefix}:{{{of.user_id}}}:{of.turn_id.hex}"


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
