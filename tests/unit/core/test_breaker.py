import asyncio

import asyncpg
import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from parley.core import resilience
from parley.core.errors import DatabaseUnavailable, TurnInProgress
from parley.core.resilience import Breaker
from tests.unit.core.outage import PATIENCE_SECONDS, Database, fail, probe_is_over


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(resilience, "monotonic", clock)
    return clock


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def breaker(database: Database) -> Breaker:
    """Its probe is as patient as the test."""
    return Breaker(database.ping, failures=3, window_seconds=10, probe_seconds=PATIENCE_SECONDS)


class TestClosed:
    async def test_what_succeeds_goes_through(self, breaker: Breaker):
        with breaker.guard():
            pass

        assert not breaker.is_open

    async def test_what_fails_is_raised_as_it_is(self, breaker: Breaker):
        error = ConnectionRefusedError()

        with pytest.raises(ConnectionRefusedError) as caught:
            with breaker.guard():
                raise error

        assert error is caught.value

    async def test_it_trips_at_so_many_connection_failures_and_not_before(self, breaker: Breaker):
        fail(breaker, 2)
        assert not breaker.is_open

        fail(breaker)
        assert breaker.is_open

        await breaker.close()

    @pytest.mark.parametrize(
        "error",
        [
            PoolTimeout("QueuePool limit"),
            asyncpg.QueryCanceledError("x"),
            asyncpg.DiskFullError("x"),
            asyncpg.DeadlockDetectedError("x"),
            asyncpg.UniqueViolationError("x"),
            asyncpg.UndefinedTableError("x"),
            TurnInProgress(),
            ValueError("x"),
        ],
        ids=lambda error: type(error).__name__,
    )
    async def test_nothing_else_counts(self, error: Exception, breaker: Breaker):
        fail(breaker, 10, error)
        fail(breaker, 2)

        assert not breaker.is_open

    async def test_cancellation_does_not_count(self, breaker: Breaker):
        for _ in range(10):
            with pytest.raises(asyncio.CancelledError):
                with breaker.guard():
                    raise asyncio.CancelledError

        assert not breaker.is_open

    async def test_failures_further_apart_than_the_window_do_not_trip_it(
        self, breaker: Breaker, clock: Clock
    ):
        for _ in range(10):
            fail(breaker)
            clock.now += 5.1

        assert not breaker.is_open

    async def test_failures_just_within_the_window_do(self, breaker: Breaker, clock: Clock):
        fail(breaker)
        clock.now += 5
        fail(breaker)
        clock.now += 5
        fail(breaker)

        assert breaker.is_open
        await breaker.close()


class TestOpen:
    @pytest.fixture
    async def breaker(self, breaker: Breaker, database: Database) -> Breaker:
        fail(breaker, 3)
        await database.is_asked()
        return breaker

    async def test_it_refuses_before_anything_is_tried(self, breaker: Breaker):
        reached = False

        with pytest.raises(DatabaseUnavailable):
            with breaker.guard():
                reached = True

        assert not reached
        await breaker.close()

    async def test_an_answer_closes_it(self, breaker: Breaker, database: Database):
        database.answers()
        await probe_is_over()

        assert not breaker.is_open
        with breaker.guard():
            pass

    async def test_after_an_answer_it_counts_from_nothing(
        self, breaker: Breaker, database: Database
    ):
        database.answers()
        await probe_is_over()
        fail(breaker, 2)

        assert not breaker.is_open

    async def test_it_trips_again(self, breaker: Breaker, database: Database):
        database.answers()
        await probe_is_over()
        fail(breaker, 3)
        await database.is_asked()

        assert (True, 2) == (breaker.is_open, database.probes)
        await breaker.close()

    async def test_closing_ends_the_probe(self, breaker: Breaker, database: Database):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await breaker.close()

        assert not breaker.is_open
        assert {asyncio.current_task()} == asyncio.all_tasks()

    async def test_closing_twice_is_as_once(self, breaker: Breaker):
        await breaker.close()
        await breaker.close()

        assert not breaker.is_open
