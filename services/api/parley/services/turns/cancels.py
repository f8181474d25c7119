"""How a process learns that a turn it runs is to end, whichever process was told so."""

import asyncio
from collections.abc import Sequence

import structlog

from parley.core.errors import TurnCancelled, Unavailable
from parley.core.logging import frames_of
from parley.core.tasks import cancel
from parley.crud.ports import Store
from parley.services.turns.runner import LiveTurn, TurnRunner
from parley.services.workers import Worker

LOOK_SECONDS = 0.5
ASKING_AT_ONCE = 4

log = structlog.get_logger(__name__)


class CancelWatch:
    """One question for all that runs here: only when its answer changes is each user's asked for."""

    def __init__(self, store: Store, runner: TurnRunner, worker: Worker) -> None:
        self._store = store
        self._runner = runner
        self._worker = worker
        self._seen = 0
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._watching is not None:
            await cancel(self._watching)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._runner.is_busy:
                continue
            try:
                await self.look()
            except* Unavailable:
                pass  # it looks again
            except* Exception as bug:  # noqa: BLE001 - logged; the next turn may be cancelled too
                log.error("cancel-watch-crashed", **frames_of(bug))

    async def look(self) -> None:
        """
        Raises:
            DatabaseUnavailable, Overloaded: the store did not answer in time.
        """
        count = await self._store.cancels(self._worker.id)
        if count == self._seen:
            return
        asking = asyncio.Semaphore(ASKING_AT_ONCE)
        async with asyncio.TaskGroup() as all_at_once:
            looks = [
                all_at_once.create_task(self._look_through(user_id, running, asking))
                for user_id, running in self._runner.by_user().items()
            ]
        if all(look.result() for look in looks):
            self._seen = count

    async def _look_through(
        self, user_id: str, running: Sequence[LiveTurn], asking: asyncio.Semaphore
    ) -> bool:
        """False where the store had no room for this user: others are looked through all the same."""
        # One that is just being accepted may not be there yet.
        started = [live for live in running if live.has_started]
        try:
            async with asking, self._store.begin(user_id, read_only=True) as tx:
                wanted = await tx.turns.wanted(self._worker.id)
        except Unavailable:
            return False
        for live in started:
            if live.turn.id not in wanted:
                # Where it was deleted, with its conversation, nothing is recorded.
                live.interrupt(TurnCancelled())
        return True
