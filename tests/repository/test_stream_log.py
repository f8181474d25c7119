"""One suite for both stream logs. Redis keeps what a test leaves: each has its own keys."""

import time
from collections.abc import AsyncGenerator, Sequence
from uuid import UUID

import pytest
from redis.asyncio import Redis

from parley.core.errors import Unavailable
from parley.core.ids import new_id
from parley.crud.memory.streams import MemoryStreamLog
from parley.crud.ports import SILENCE_SECONDS_MAX, Place, StreamLog, Stretch
from parley.crud.redis import events as redis_events
from parley.crud.redis.common import RedisCommon

RETENTION_SECONDS = 60


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no outage; those have tests of their own."""
    monkeypatch.setattr("parley.crud.redis.connection.TIMEOUT_SECONDS", 10)


@pytest.fixture
def prefix() -> str:
    return f"test-{new_id().hex}"


@pytest.fixture
async def common(redis_url: str, prefix: str) -> AsyncGenerator[RedisCommon]:
    common = RedisCommon(redis_url, retention_seconds=RETENTION_SECONDS, prefix=prefix)
    yield common
    await common.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture(params=["memory", "redis"])
def log(request: pytest.FixtureRequest) -> StreamLog:
    if request.param == "memory":
        return MemoryStreamLog(retention_seconds=RETENTION_SECONDS)
    common: RedisCommon = request.getfixturevalue("common")
    return common.events


@pytest.fixture
def turn_id() -> UUID:
    return new_id()


async def write(
    log: StreamLog, turn_id: UUID, start: int, *pieces: str, is_last: bool = False
) -> int:
    (reached,) = await log.append([Stretch("alice", turn_id, start, pieces, is_last)])
    return reached


async def read(log: StreamLog, turn_id: UUID, start: int = 0) -> tuple[list[str], bool]:
    (found,) = await log.read([Place("alice", turn_id, start)])
    return [*found.pieces], found.is_last


class TestOrder:
    async def test_what_was_written_is_read_to_the_letter(self, log: StreamLog, turn_id: UUID):
        pieces = ["one ", "", '\u2028\n"', "\U0001f511 \u00e9"]
        assert 2 == await write(log, turn_id, 0, *pieces[:2])
        assert 4 == await write(log, turn_id, 2, *pieces[2:])
        assert (pieces, False) == await read(log, turn_id)

        assert 5 == await write(log, turn_id, 4, is_last=True)
        assert (pieces, True) == await read(log, turn_id)

    async def test_the_end_comes_with_the_last_pieces_or_alone(self, log: StreamLog):
        for pieces in ((), ("all",)):
            turn_id = new_id()
            assert len(pieces) + 1 == await write(log, turn_id, 0, *pieces, is_last=True)
            assert ([*pieces], True) == await read(log, turn_id)

    async def test_it_is_read_on_from_where_a_reader_is(self, log: StreamLog, turn_id: UUID):
        await write(log, turn_id, 0, "a", "b")
        await write(log, turn_id, 2, "c", is_last=True)

        assert (["c"], True) == await read(log, turn_id, 2)

    async def test_also_where_that_is_within_what_was_written_at_once(
        self, log: StreamLog, turn_id: UUID
    ):
        """As for one who reads on when a log that was emptied has been filled again."""
        await write(log, turn_id, 0, "a", "b", "c")
        await write(log, turn_id, 3, "d", is_last=True)

        for start, rest in enumerate((["a", "b", "c", "d"], ["b", "c", "d"], ["c", "d"], ["d"])):
            assert (rest, True) == await read(log, turn_id, start)

    async def test_writing_again_is_the_same_as_once(self, log: StreamLog, turn_id: UUID):
        """An answer that was lost is found out by doing it again."""
        for _ in range(2):
            assert 2 == await write(log, turn_id, 0, "a", "b")
        assert (["a", "b"], False) == await read(log, turn_id)

    async def test_what_would_leave_a_gap_is_not_taken(self, log: StreamLog, turn_id: UUID):
        """As after a Redis that was emptied: the writer begins anew."""
        assert 0 == await write(log, turn_id, 5, "late")
        assert ([], False) == await read(log, turn_id)

    async def test_nothing_follows_the_end(self, log: StreamLog, turn_id: UUID):
        await write(log, turn_id, 0, "a", is_last=True)
        await write(log, turn_id, 1, "b")

        assert (["a"], True) == await read(log, turn_id)

    async def test_many_turns_go_at_once_and_each_is_its_own(self, log: StreamLog):
        turns = [new_id() for _ in range(50)]
        stretches = [
            Stretch("alice", turn_id, 0, [turn_id.hex], is_last=False) for turn_id in turns
        ]

        assert [1] * 50 == [*await log.append(stretches)]
        found = await log.read([Place("alice", turn_id, 0) for turn_id in turns])
        assert [[turn_id.hex] for turn_id in turns] == [[*f.pieces] for f in found]

    async def test_one_users_turn_is_nobody_elses(self, log: StreamLog, turn_id: UUID):
        await write(log, turn_id, 0, "a")

        (found,) = await log.read([Place("bob", turn_id, 0)])
        assert ((), False) == (tuple(found.pieces), found.is_last)

    async def test_a_long_one_is_read_in_parts(self, log: StreamLog, turn_id: UUID):
        said: Sequence[str] = [str(number) for number in range(250)]
        for number, piece in enumerate(said):
            await write(log, turn_id, number, piece)
        found: list[str] = []
        while more := (await read(log, turn_id, len(found)))[0]:
            found += more

        assert said == found


class TestMemory:
    async def test_it_is_forgotten_when_its_time_is_over(self, turn_id: UUID):
        now = 0.0
        log = MemoryStreamLog(retention_seconds=60, clock=lambda: now)
        await write(log, turn_id, 0, "a")
        now = SILENCE_SECONDS_MAX - 1.0
        await write(log, turn_id, 1, "b", is_last=True)
        now += 59
        assert (["a", "b"], True) == await read(log, turn_id)
        now += 2
        assert ([], False) == await read(log, turn_id)

        await write(log, new_id(), 0, "c")
        assert [(("alice", turn_id) in log._logs)] == [False]  # noqa: SLF001 - and its memory is free

    async def test_of_what_has_ended_the_oldest_go_when_it_is_too_much(self):
        log = MemoryStreamLog(retention_seconds=60, size_max=1000)
        running, *ended = [new_id() for _ in range(5)]
        await write(log, running, 0, "x" * 900)
        for turn_id in ended:
            await write(log, turn_id, 0, "y" * 300, is_last=True)

        assert (["x" * 900], False) == await read(log, running)
        assert [False, False, False, False] == [(await read(log, t))[1] for t in ended]
        await write(log, running, 1, is_last=True)
        await write(log, ended[0], 0, "y", is_last=True)
        assert ([], False) == await read(log, running)
        assert (["y"], True) == await read(log, ended[0])


class TestRedis:
    async def test_what_was_lost_in_between_ends_the_reading_there(
        self, common: RedisCommon, redis: Redis, prefix: str, turn_id: UUID
    ):
        for number, piece in enumerate("abc"):
            await write(common.events, turn_id, number, piece)
        await redis.xdel(f"{prefix}:events:{{alice}}:{turn_id.hex}", "2-0")

        assert (["a"], False) == await read(common.events, turn_id)
        assert ([], False) == await read(common.events, turn_id, 1)

    async def test_it_goes_by_itself_and_not_before_a_silent_model_speaks_again(
        self, common: RedisCommon, redis: Redis, prefix: str, turn_id: UUID
    ):
        began_at = time.monotonic()
        key = f"{prefix}:events:{{alice}}:{turn_id.hex}"
        await write(common.events, turn_id, 0, "a")
        assert SILENCE_SECONDS_MAX < await redis.ttl(key) <= SILENCE_SECONDS_MAX + 60
        await write(common.events, turn_id, 1, is_last=True)
        assert 60 - (time.monotonic() - began_at) - 1 <= await redis.ttl(key) <= 60

    async def test_one_that_is_away_is_unavailable(self, turn_id: UUID):
        common = RedisCommon("redis://127.0.0.1:1/0", retention_seconds=60)
        for asking in (write(common.events, turn_id, 0, "a"), read(common.events, turn_id)):
            with pytest.raises(Unavailable):
                await asking
        await common.close()


class TestRoomOfAUser:
    """In Redis: one user's logs together, so that nobody fills what all share."""

    @pytest.fixture(autouse=True)
    def little_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(redis_events, "USER_SIZE_MAX", 100_000)

    @pytest.fixture
    def log(self, common: RedisCommon) -> StreamLog:
        return common.events

    async def ended(self, log: StreamLog, size: int) -> UUID:
        turn_id = new_id()
        await write(log, turn_id, 0, "x" * size, is_last=True)
        return turn_id

    async def test_of_what_has_ended_the_oldest_go(
        self, log: StreamLog, redis: Redis, prefix: str
    ):
        """By when they ended: the longest turn may have begun first."""
        long = new_id()
        await write(log, long, 0, "x" * 30_000)
        first, second = await self.ended(log, 30_000), await self.ended(log, 10_000)
        await write(log, long, 1, is_last=True)
        # As if some time had been between them.
        for seconds, turn_id in enumerate((first, second, long), start=50):
            await redis.expire(f"{prefix}:events:{{alice}}:{turn_id.hex}", seconds)
        third = await self.ended(log, 10_000)

        turns = (first, second, long, third)
        assert [False, True, True, True] == [(await read(log, t))[1] for t in turns]

    async def test_what_still_runs_stays(self, log: StreamLog, turn_id: UUID):
        await write(log, turn_id, 0, "x" * 60_000)
        for _ in range(5):
            await self.ended(log, 40_000)

        assert (["x" * 60_000], False) == await read(log, turn_id)

    async def test_what_runs_and_is_too_long_loses_its_beginning(
        self, log: StreamLog, turn_id: UUID
    ):
        """A quarter at once: who reads along has it all."""
        for number in range(12):
            assert number + 1 == await write(log, turn_id, number, "x" * 10_000)

        found = [bool((await read(log, turn_id, number))[0]) for number in range(12)]
        assert [False] * 4 + [True] * 8 == found

    async def test_the_newest_stays_whatever_it_takes(self, log: StreamLog, turn_id: UUID):
        """Or the writer would be told to begin anew, for ever."""
        other = new_id()
        await write(log, other, 0, "x" * 200_000)
        assert 1 == await write(log, turn_id, 0, "a")
        assert 2 == await write(log, turn_id, 1, "b")
        assert (["b"], False) == await read(log, turn_id, 1)
        assert (["x" * 200_000], False) == await read(log, other)

    async def test_the_end_of_one_that_is_too_long_stays(self, log: StreamLog, turn_id: UUID):
        await write(log, turn_id, 0, "x" * 60_000)
        await write(log, turn_id, 1, "y" * 60_000, is_last=True)

        assert ([], False) == await read(log, turn_id)
        assert (["y" * 60_000], True) == await read(log, turn_id, 1)

    async def test_what_was_written_again_counts_once(self, log: StreamLog, turn_id: UUID):
        ended = await self.ended(log, 20_000)
        for _ in range(20):
            await write(log, turn_id, 0, "x" * 10_000)

        assert (["x" * 20_000], True) == await read(log, ended)

    async def test_what_has_gone_by_itself_counts_no_more(
        self, log: StreamLog, redis: Redis, prefix: str
    ):
        kept = await self.ended(log, 40_000)
        expired = await self.ended(log, 40_000)
        await redis.delete(f"{prefix}:events:{{alice}}:{expired.hex}")
        for _ in range(3):
            await write(log, new_id(), 0, "x" * 10_000)

        assert (["x" * 40_000], True) == await read(log, kept)

    async def test_a_small_one_counts_with_what_redis_needs_for_it(
        self, log: StreamLog, redis: Redis, prefix: str
    ):
        turns = [await self.ended(log, 1) for _ in range(100)]

        kept = sum([(await read(log, t))[1] for t in turns])
        assert 10 < kept < 25
        assert kept + 1 == await redis.hlen(f"{prefix}:events:{{alice}}:sizes")

    async def test_one_users_flood_takes_nothing_of_anothers(self, log: StreamLog, turn_id: UUID):
        await log.append([Stretch("bob", turn_id, 0, ["b"], is_last=True)])
        for _ in range(10):
            await self.ended(log, 50_000)

        (found,) = await log.read([Place("bob", turn_id, 0)])
        assert found.is_last

    async def test_what_is_known_of_it_goes_too(
        self, log: StreamLog, redis: Redis, prefix: str, turn_id: UUID
    ):
        await write(log, turn_id, 0, "a", is_last=True)

        keys = [key async for key in redis.scan_iter(f"{prefix}:*")]
        assert 2 == len(keys)
        assert all([await redis.ttl(key) > 0 for key in keys])
