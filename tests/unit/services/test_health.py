import asyncio

import pytest

from parley.crud.memory.store import MemoryStore
from parley.services.health import HealthService
from parley.services.turns.runner import TurnRunner

MANY = 100


class Slow(MemoryStore):
    """Counts what it is asked, and answers when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.answers = asyncio.Event()

    async def ping(self) -> None:
        self.asked.append("ping")
        await self.answers.wait()

    async def revision(self) -> str | None:
        self.asked.append("revision")
        await self.answers.wait()
        return await super().revision()


@pytest.mark.parametrize(
    ("name", "questions"),
    [("ready", ["revision"]), ("database", ["revision"]), ("service", ["ping"])],
)
async def test_however_many_ask_the_database_is_asked_once(name: str, questions: list[str]):
    """Nobody needs a token for it: a flood of them would go before everybody who has one."""
    store = Slow()
    health = HealthService(store, TurnRunner(store), version="1", refuses_faults=False)
    asking = [asyncio.create_task(getattr(health, name)()) for _ in range(MANY)]
    await asyncio.sleep(0)
    asking.pop().cancel()
    store.answers.set()

    answers = await asyncio.gather(*asking)

    assert questions == store.asked
    assert {"ready", "ok"} >= {answer.status for answer in answers}
    await getattr(health, name)()
    assert len(store.asked) > len(questions)


async def test_what_a_database_far_away_says_counts_though_no_probe_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
):
    """One that is never heard in time would keep a process from ever being ready."""
    store = Slow()
    health = HealthService(store, TurnRunner(store), version="1", refuses_faults=False)
    monkeypatch.setattr("parley.services.health.PROBE_SECONDS", 0.01)
    for _ in range(2):
        too_early = await health.ready()
        assert ("not-ready", "disconnected") == (too_early.status, too_early.database)
    store.answers.set()
    monkeypatch.setattr("parley.services.health.PROBE_SECONDS", 30)

    assert "ready" == (await health.ready()).status
    assert 1 == store.asked.count("revision")
