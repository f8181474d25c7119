import asyncio

import asyncpg
import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from parley.core.resilience import Breaker
from tests.unit.core.outage import PATIENCE_SECONDS, Database, fail, probe_is_over

MOMENT_SECONDS = 0.01


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def breaker(database: Database) -> Breaker:
    """Trips at the first failure, and its probe is as patient as the test."""
    return Breaker(database.ping, failures=1, probe_seconds=PATIENCE_SECONDS)


@pytest.fixture
def hasty(database: Database, monkeypatch: pytest.MonkeyPatch) -> Breaker:
    monkeypatch.setattr("parley.core.resilience.PAUSE_SECONDS", MOMENT_SECONDS)
    return Breaker(database.ping, failures=1, probe_seconds=MOMENT_SECONDS)


class TestProbe:
    async def test_there_is_exactly_one(self, breaker: Breaker, database: Database):
        """However many calls fail that had begun before."""
        began, go = asyncio.Barrier(6), asyncio.Event()

        async def call() -> None:
            with breaker.guard():
                await began.wait()
                await go.wait()
                raise ConnectionRefusedError

        calls = [asyncio.create_task(call()) for _ in range(5)]
        await began.wait()
        go.set()
        await asyncio.wait(calls)
        await database.is_asked()

        assert (1, 1) == (database.probes, len(asyncio.all_tasks() - {asyncio.current_task()}))
        await breaker.close()

    @pytest.mark.parametrize(
        "error",
        [
            ConnectionRefusedError(),
            TimeoutError(),
            PoolTimeout("x"),
            asyncpg.CannotConnectNowError("x"),
            asyncpg.DiskFullError("x"),
        ],
        ids=lambda error: type(error).__name__,
    )
    async def test_one_that_fails_is_followed_by_another(
        self, error: Exception, hasty: Breaker, database: Database
    ):
        fail(hasty)
        await database.is_asked()
        database.answers(error)
        await database.is_asked()

        assert hasty.is_open
        database.answers()
        await probe_is_over()
        assert (False, 1) == (hasty.is_open, database.most_at_once)

    async def test_one_that_hangs_is_given_up(self, hasty: Breaker, database: Database):
        fail(hasty)
        await database.is_asked()
        await database.is_asked()

        assert (True, 1) == (hasty.is_open, database.most_at_once)
        await hasty.close()

    async def test_a_bug_in_it_does_not_wedge_the_breaker(
        self, breaker: Breaker, database: Database
    ):
        fail(breaker)
        (probe,) = asyncio.all_tasks() - {asyncio.current_task()}
        database.answers(KeyError("x"))
        await asyncio.wait([probe])

        assert not breaker.is_open
        assert isinstance(probe.exception(), KeyError)

    async def test_closing_before_it_has_begun_does_not_wedge_the_breaker(
        self, breaker: Breaker, database: Database
    ):
        fail(breaker)
        await breaker.close()

        assert (False, 0) == (breaker.is_open, database.probes)

    async def test_closing_a_breaker_that_never_tripped_is_nothing(self, breaker: Breaker):
        await breaker.close()

        assert not breaker.is_open


class TestLateResults:
    """Of calls that began before it opened."""

    async def test_a_success_does_not_close_it(self, breaker: Breaker):
        go = asyncio.Event()
        call = await begun(breaker, go)
        fail(breaker)
        go.set()
        await call

        assert breaker.is_open
        await breaker.close()

    async def test_a_failure_after_it_closed_does_not_open_it_again(
        self, breaker: Breaker, database: Database
    ):
        go = asyncio.Event()
        call = await begun(breaker, go, ConnectionRefusedError())
        fail(breaker)
        database.answers()
        await probe_is_over(beside=call)
        assert not breaker.is_open

        go.set()
        with pytest.raises(ConnectionRefusedError):
            await call

        assert not breaker.is_open


async def begun(
    breaker: Breaker, go: asyncio.Event, error: Exception | None = None
) -> asyncio.Task[None]:
    """A call that has passed the breaker, and ends once it may go."""
    passed = asyncio.Event()

    async def call() -> None:
        with breaker.guard():
            passed.set()
            await go.wait()
            if error:
                raise error

    task = asyncio.create_task(call())
    await passed.wait()
    return task
