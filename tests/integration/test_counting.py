"""What is counted of turns, of the database, of the stream log and of leases; each where it happens."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import partial

import pytest

from parley.core.errors import (
    ConversationNotFound,
    DatabaseUnavailable,
    Full,
    ModelError,
    ModelUnavailable,
    Overloaded,
    TurnCancelled,
    TurnInProgress,
)
from parley.core.ids import new_id
from parley.crud.ports import LOST_SECONDS, Store
from parley.crud.sql.store import SqlStore
from parley.services import workers
from parley.services.turns import relay as relay_module
from parley.services.turns import runner
from parley.services.workers import Worker
from tests.counts import Counted, gauge
from tests.databases import DatabaseUrls
from tests.factories import make_conversation
from tests.integration.test_recovery import Leaseless
from tests.integration.test_relay import PATIENCE_SECONDS, FaultyLog, eventually
from tests.proxy import proxied
from tests.responders import Gated, Scripted
from tests.stores import patient_store, until_back
from tests.turn_process import Process


@pytest.fixture
def backend() -> str:
    """What is counted is counted above the store; what is not names its own."""
    return "memory"


@pytest.fixture
def counted() -> Counted:
    return Counted()


def turns(counted: Counted) -> dict[tuple[str, str], float]:
    """By outcome and code."""
    series = counted.series("parley_turns_total")
    return {
        (dict(labels)["outcome"], dict(labels)["code"]): value for labels, value in series.items()
    }


class TestTurns:
    async def test_one_that_is_whole(self, store: Store, alice: str, counted: Counted):
        process = Process(store, Scripted("hello"))

        await process.say(alice, "hi")

        assert {("complete", ""): 1} == turns(counted)
        assert 1 == counted("parley_turn_seconds_count", outcome="complete")
        assert 1 == counted("parley_history_seconds_count")

    @pytest.mark.parametrize(("error", "outcome"), [(None, "complete"), (ModelError(), "failed")])
    async def test_it_takes_as_long_as_from_its_acceptance_to_its_end(
        self,
        store: Store,
        alice: str,
        counted: Counted,
        error: ModelError | None,
        outcome: str,
        monkeypatch: pytest.MonkeyPatch,
    ):
        moments = iter([1000.0, 1007.5])
        monkeypatch.setattr(runner, "perf_counter", lambda: next(moments))
        process = Process(store, Scripted("half ", error=error))

        with suppress(ModelError):
            await process.say(alice, "hi")

        assert 7.5 == counted("parley_turn_seconds_sum", outcome=outcome)

    async def test_one_runs_until_it_has_ended(self, store: Store, alice: str):
        model = Gated("half ")
        process = Process(store, model)
        before = gauge("parley_turns_running")

        await process.begin(alice)
        assert before + 1 == gauge("parley_turns_running")

        model.gate.set()
        await process.idle()
        assert before == gauge("parley_turns_running")

    @pytest.mark.parametrize(("first", "code"), [("half ", ""), ("", "turn-cancelled")])
    async def test_one_that_was_cancelled_has_not_failed(
        self, store: Store, alice: str, counted: Counted, first: str, code: str
    ):
        model = Gated(first)
        process = Process(store, model)
        begun = await process.ask(alice)
        started = await begun.events.started()
        await model.asked.wait()

        await process.turns.cancel(alice, started.turn_id)
        with suppress(TurnCancelled):
            await begun.events.outcome()

        assert {("cancelled", code): 1} == turns(counted)

    @pytest.mark.parametrize("pieces", [[], ["half "]])
    @pytest.mark.parametrize("error", [ModelError(), ModelUnavailable()])
    async def test_one_that_failed_says_why(
        self, store: Store, alice: str, counted: Counted, error: ModelError, pieces: list[str]
    ):
        process = Process(store, Scripted(*pieces, error=error))

        with pytest.raises(type(error)):
            await process.say(alice, "hi")

        assert {("failed", error.code): 1} == turns(counted)
        assert 1 == counted("parley_turn_seconds_count", outcome="failed")

    async def test_one_whose_conversation_is_gone_has_not_failed(
        self, store: Store, alice: str, counted: Counted
    ):
        model = Gated("half ")
        process = Process(store, model)
        begun = await process.ask(alice)
        started = await begun.events.started()
        await model.asked.wait()
        async with store.begin(alice) as tx:
            await tx.conversations.delete(started.conversation_id)
        model.gate.set()

        with pytest.raises(ConversationNotFound):
            await begun.events.outcome()

        assert {("cancelled", "conversation-not-found"): 1} == turns(counted)

    async def test_what_was_refused_was_no_turn(self, store: Store, alice: str, counted: Counted):
        model = Gated("half ")
        process = Process(store, model)
        started = await process.begin(alice)

        with pytest.raises(TurnInProgress):
            await process.say(alice, "me too", started.conversation_id)

        assert {} == turns(counted)
        model.gate.set()
        await process.idle()

    @pytest.mark.parametrize("met_by", ["who reads it", "who writes behind it"])
    async def test_one_whose_process_died_is_counted_once_by_who_meets_it(
        self, store: Store, alice: str, counted: Counted, met_by: str
    ):
        dead, there = Process(store, Gated("half ")), Process(store, Scripted("ok"))
        started = await dead.begin(alice)
        await store.forget(dead.worker.id)

        if met_by == "who reads it":
            for _ in range(2):
                await there.turns.get(alice, started.turn_id)
            expected = {("failed", "worker-lost"): 1.0}
        else:
            await there.say(alice, "and now", started.conversation_id)
            expected = {("failed", "worker-lost"): 1.0, ("complete", ""): 1.0}

        assert expected == turns(counted)
        await dead.runner.stop(grace_seconds=0)

    async def test_one_that_was_taken_for_lost_is_counted_once_though_its_process_comes_back(
        self, store: Store, alice: str, counted: Counted
    ):
        model = Gated("half ")
        frozen, there = Process(store, model), Process(store, Scripted("ok"))
        started = await frozen.begin(alice)
        await model.asked.wait()
        await store.forget(frozen.worker.id)
        await there.turns.get(alice, started.turn_id)

        model.gate.set()
        await frozen.idle()

        assert {("failed", "worker-lost"): 1} == turns(counted)

    @pytest.mark.parametrize("backend", ["memory", "sqlite", "postgres"])
    async def test_nor_twice_where_nothing_of_its_reply_had_come(
        self, store: Store, alice: str, counted: Counted
    ):
        model = Gated()
        frozen, there = Process(store, model), Process(store, Scripted("ok"))
        started = await frozen.begin(alice)
        await model.asked.wait()
        await store.forget(frozen.worker.id)
        await there.turns.get(alice, started.turn_id)

        await frozen.turns.cancel(alice, started.turn_id)
        await frozen.idle()

        assert {("failed", "worker-lost"): 1} == turns(counted)

    async def test_every_rate_begins_at_nothing(self, store: Store):
        """Else the first failure of its kind would be in no rate."""
        Process(store, Scripted())

        for code in ("model-error", "model-timeout", "model-unavailable", "worker-lost"):
            assert gauge("parley_turns_total", outcome="failed", code=code) >= 0
        assert gauge("parley_stream_log_failures_total", operation="append", reason="full") >= 0


class TestDatabase:
    @pytest.fixture
    async def small(self, postgres: DatabaseUrls) -> AsyncGenerator[SqlStore]:
        store = patient_store(postgres.api, pool_size=2)
        yield store
        await store.close()

    async def test_what_is_open_is_in_use_and_what_has_no_room_waits(
        self, small: SqlStore, alice: str, bob: str
    ):
        in_use, waiting = (
            partial(gauge, f"parley_database_connections_{what}", database="parley")
            for what in ("in_use", "waited_for")
        )
        assert 2 == gauge("parley_database_connections_max", database="parley")

        async with small.begin(alice), small.begin(bob):
            assert (2, 0) == (in_use(), waiting())
            third = asyncio.create_task(make_conversation(small, "carol"))
            await eventually(lambda: waiting() == 1)
        await third

        assert (0, 0) == (in_use(), waiting())

    async def test_what_is_closed_may_open_none(self, small: SqlStore):
        """As what looks at the database before the first process serves."""
        await small.close()

        assert 0 == gauge("parley_database_connections_max", database="parley")

    async def test_what_finds_no_room_is_counted(
        self,
        postgres: DatabaseUrls,
        alice: str,
        bob: str,
        counted: Counted,
        monkeypatch: pytest.MonkeyPatch,
    ):
        monkeypatch.setattr("parley.crud.sql.database.POOL_WAIT_SECONDS", 0.01)
        store = patient_store(postgres.api, pool_size=1)

        async with store.begin(alice):
            with pytest.raises(Overloaded):
                await make_conversation(store, bob)

        assert {frozenset({("database", "parley"), ("code", "overloaded")}): 1} == counted.series(
            "parley_database_refusals_total"
        )
        await store.close()

    async def test_while_it_is_away_a_process_says_so_and_counts_what_came_to_nothing(
        self, postgres: DatabaseUrls, counted: Counted
    ):
        refused = {"database": "parley", "code": "database-unavailable"}
        async with proxied(postgres.api) as (proxy, url):
            store = patient_store(url)
            await proxy.refuse()
            for _ in range(6):
                with pytest.raises(DatabaseUnavailable):
                    await store.ping()

            assert 6 == counted("parley_database_refusals_total", **refused)
            assert 1 == gauge("parley_database_away", database="parley")

            await proxy.serve()
            await until_back(store, PATIENCE_SECONDS)
            await eventually(lambda: gauge("parley_database_away", database="parley") == 0)
            await store.close()


class TestStreamLog:
    @pytest.fixture(autouse=True)
    def impatience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(relay_module, "TICK_SECONDS", 0.001)

    async def test_each_question_is_timed_and_what_is_followed_is_known(
        self, store: Store, alice: str, counted: Counted
    ):
        log, model = FaultyLog(), Gated("half ")
        here, there = Process(store, model, log=log), Process(store, Scripted(), log=log)
        async with here.relaying(), there.relaying():
            started = await here.begin(alice)
            reading = await there.turns.read(alice, started.turn_id)
            assert 1 == gauge("parley_turns_followed")
            await eventually(lambda: reading.events.pieces)
            model.gate.set()
            await reading.events.outcome()
            reading.leave()

        assert 0 == gauge("parley_turns_followed")
        for operation in ("append", "read"):
            assert 0 < counted("parley_stream_log_seconds_count", operation=operation)
        assert {} == counted.series("parley_stream_log_failures_total")

    async def test_what_it_refuses_is_counted(self, store: Store, alice: str, counted: Counted):
        log, model = FaultyLog(), Gated("half ")
        log.refusal = Full()
        process = Process(store, model, log=log)
        async with process.relaying():
            await process.begin(alice)
            await eventually(
                lambda: (
                    counted("parley_stream_log_failures_total", operation="append", reason="full")
                    > 0
                )
            )
            log.refusal = None
            model.gate.set()
            await process.idle()


class TestLeases:
    async def test_one_is_held_until_the_process_leaves(self, store: Store):
        worker = Worker(store)
        worker.start()
        await eventually(lambda: gauge("parley_leases_held") == 1)

        await worker.stop()
        assert 0 == gauge("parley_leases_held")

    async def test_one_that_ran_out_is_not_held(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ):
        now = 1000.0
        monkeypatch.setattr(workers, "monotonic", lambda: now)
        monkeypatch.setattr(workers, "RENEW_SECONDS", 0.001)
        monkeypatch.setattr(workers, "RENEW_AGAIN_SECONDS", 0.001)
        leaseless = Leaseless(store)
        worker = Worker(leaseless)
        worker.start()
        await eventually(lambda: gauge("parley_leases_held") == 1)

        leaseless.is_away = True
        now += workers.LEASE_SECONDS
        await eventually(lambda: gauge("parley_leases_held") == 0)

        leaseless.is_away = False
        await eventually(lambda: gauge("parley_leases_held") == 1)
        await worker.stop()

    @pytest.mark.parametrize("backend", ["memory", "sqlite", "postgres"])
    async def test_who_dies_is_seen_by_those_who_live(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ):
        for module in ("memory", "sql"):
            monkeypatch.setattr(f"parley.crud.{module}.store.LEASE_SECONDS", -1)
        await store.renew(new_id())
        for module in ("memory", "sql"):
            monkeypatch.setattr(f"parley.crud.{module}.store.LEASE_SECONDS", 600)
        living = Worker(store)

        living.start()
        await eventually(lambda: gauge("parley_leases_lost") == 1)
        await living.stop()

    @pytest.mark.parametrize("backend", ["memory", "sqlite", "postgres"])
    async def test_who_died_long_ago_rings_no_more(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ):
        for seconds in (-1, -LOST_SECONDS - 1, 600):
            for module in ("memory", "sql"):
                monkeypatch.setattr(f"parley.crud.{module}.store.LEASE_SECONDS", seconds)
            await store.renew(new_id())

        assert 1 == await store.lost()
