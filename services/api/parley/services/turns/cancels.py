"""How a process learns that a turn it runs is to end, whichever process was told so."""

import asyncio
from collections.abc import Sequence
from functools import partial

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
    """
    One question for all that runs here: only when its answer changes is each user's asked for.

    No user waits for how long another's takes.
    """

    def __init__(self, store: Store, runner: TurnRunner, worker: Worker) -> None:
        self._store = store
        self._runner = runner
        self._worker = worker
        self._seen = 0
        # Whose turns are to be looked through, and because of which answer.
        self._due: dict[str, int] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._asking = asyncio.Semaphore(ASKING_AT_ONCE)
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._watching is not None:
            await cancel(self._watching)
        for look in [*self._looks.values()]:
            await cancel(look)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._runner.is_busy:
                continue
            try:
                await self._begin_looks()
            except Unavailable:
                pass  # it looks again
            except Exception as bug:  # noqa: BLE001 - logged; the next turn may be cancelled too
                log.error("cancel-watch-crashed", **frames_of(bug))

    async def look(self) -> None:
        """
        Returns when everybody has been looked through for whom there was room.

        Raises:
            DatabaseUnavailable, Overloaded: the store did not answer in time.
        """
        await self._begin_looks()
        await asyncio.gather(*self._looks.values())

    async def _begin_looks(self) -> None:
        count = await self._store.cancels(self._worker.id)
        if count == self._seen and not self._due:
            return
        running = self._runner.by_user()
        if count != self._seen:
            self._seen = count
            self._due = dict.fromkeys(running, count)
        for user_id in self._due.keys() - self._looks.keys():
            look = asyncio.create_task(self._look_through(user_id, running.get(user_id, ())))
            self._looks[user_id] = look
            look.add_done_callback(partial(self._has_looked, user_id))

    async def _look_through(self, user_id: str, running: Sequence[LiveTurn]) -> None:
        async with self._asking:
            due = self._due.get(user_id)
            # One that is just being accepted may not be there yet.
            started = [live for live in running if live.has_started]
            try:
                async with self._store.begin(user_id, read_only=True) as tx:
                    wanted = await tx.turns.wanted(self._worker.id)
            except Unavailable:
                return  # it looks again
            except Exception as bug:  # noqa: BLE001 - logged; others are looked through all the same
                log.error("cancel-watch-crashed", **frames_of(bug))
                return
        for live in started:
            if live.turn.id not in wanted:
                # Where it was deleted, with its conversation, nothing is recorded.
                live.interrupt(TurnCancelled())
        # What was asked since then is for another look.
        if self._due.get(user_id) == due:
            self._due.pop(user_id, None)

    def _has_looked(self, user_id: str, _: asyncio.Task[None]) -> None:
        del self._looks[user_id]
