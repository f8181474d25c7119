"""A store that was away: every lease has run out, and nobody need be dead."""

import json
from io import StringIO
from typing import Any
from uuid import UUID

import pytest

from parley.core.errors import DatabaseUnavailable, TurnInProgress
from parley.crud.ports import Store
from parley.schemas.turns import TurnStatus
from parley.services import workers
from parley.services.workers import Worker
from tests.integration.test_relay import eventually
from tests.responders import Gated, Scripted
from tests.turn_process import Process, turn_of


class Leaseless:
    """A store that takes no lease as long as it is away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_away = False
        self.asked = 0

    async def renew(self, worker_id: UUID) -> None:
        self.asked += 1
        if self.is_away:
            raise DatabaseUnavailable
        await self._store.renew(worker_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def lapse(process: Process, store: Leaseless) -> None:
    store.is_away = True
    with pytest.raises(DatabaseUnavailable):
        await process.worker._renew()  # noqa: SLF001 - as its task does it now and then
    assert process.worker.is_recovering
    store.is_away = False
    await process.worker._renew()  # noqa: SLF001


class TestRecovery:
    async def test_who_comes_back_closes_nobodys_turn_until_others_can_be_back_too(
        self, store: Store, alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        now = 1000.0
        monkeypatch.setattr(workers, "monotonic", lambda: now)
        model, away = Gated("half "), Leaseless(store)
        here, there = Process(store, model), Process(away, Scripted("ok"))
        started = await here.begin(alice)
        await model.asked.wait()
        await store.forget(here.worker.id)
        await lapse(there, away)

        turn = await there.turns.get(alice, started.turn_id)
        assert TurnStatus.RUNNING == turn.status
        with pytest.raises(TurnInProgress):
            await there.say(alice, "again", started.conversation_id)

        await store.renew(here.worker.id)
        now += workers.RECOVERY_SECONDS
        assert TurnStatus.RUNNING == (await there.turns.get(alice, started.turn_id)).status
        model.gate.set()
        await here.idle()
        assert TurnStatus.COMPLETE == (await turn_of(store, alice, started.turn_id)).status

    async def test_then_it_closes_those_of_the_dead(
        self, store: Store, alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        now = 1000.0
        monkeypatch.setattr(workers, "monotonic", lambda: now)
        model, away = Gated("half "), Leaseless(store)
        dead, there = Process(store, model), Process(away, Scripted("ok"))
        started = await dead.begin(alice)
        await model.asked.wait()
        await store.forget(dead.worker.id)
        await lapse(there, away)
        now += workers.RECOVERY_SECONDS

        assert TurnStatus.FAILED == (await there.turns.get(alice, started.turn_id)).status
        model.gate.set()
        await dead.idle()


class TestWhatIsSaid:
    @pytest.mark.parametrize("backend", ["memory"])
    async def test_a_lease_that_cannot_be_renewed_is_one_line_however_often_it_is_tried(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, logged: StringIO
    ):
        """Twice a second of each process, for as long as a night: older lines would be gone by then."""
        for pause in ("RENEW_SECONDS", "RENEW_AGAIN_SECONDS"):
            monkeypatch.setattr(workers, pause, 0.001)
        away = Leaseless(store)
        away.is_away = True
        worker = Worker(away)
        worker.start()
        await eventually(lambda: away.asked > 3)

        away.is_away = False
        asked = away.asked
        await eventually(lambda: away.asked > asked + 3)
        away.is_away = True
        asked = away.asked
        await eventually(lambda: away.asked > asked + 3)
        await worker.stop()
        events = [json.loads(line)["event"] for line in logged.getvalue().splitlines()]
        assert ["lease-not-renewed", "lease-renewed", "lease-not-renewed"] == events
