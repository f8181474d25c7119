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

    Counting goes on while users are looked through, of each one look at a time.
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
                await self.look()
            except Unavailable:
                pass  # it looks again
            except Exception as bug:  # noqa: BLE001 - logged; the next turn may be cancelled too
                _log_crash(bug)

    async def look(self) -> None:
        """
        Returns when it is known who is to be looked through; that goes on.

        Raises:
            DatabaseUnavailable, Overloaded: the store did not answer in time.
        """
        count = await self._store.cancels(self._worker.id)
        if count == self._seen and not self._due:
            return
        running = self._runner.by_user()
        if count != self._seen:
            self._seen = count
            self._due = dict.fromkeys(running, count)
        self._due = {user_id: due for user_id, due in self._due.items() if user_id in running}
        for user_id in self._due.keys() - self._looks.keys():
            # What is asked or begun from here on is for another look.
            looking = self._look_through(user_id, running[user_id], self._due[user_id])
            look = self._looks[user_id] = asyncio.create_task(looking)
            look.add_done_callback(partial(self._has_looked, user_id))

    async def _look_through(self, user_id: str, running: Sequence[LiveTurn], due: int) -> None:
        async with self._asking:
            # One that is just being accepted may not be there yet, or be there before it is known.
            started = [live for live in running if live.has_started]
            is_sure = all(live.has_started or not live.is_open for live in running)
            try:
                async with self._store.begin(user_id, read_only=True) as tx:
                    wanted = await tx.turns.wanted(self._worker.id)
            except Unavailable:
                return  # it looks again
        for live in started:
            if live.turn.id not in wanted:
                # Where it was deleted, with its conversation, nothing is recorded.
                live.interrupt(TurnCancelled())
        if is_sure and self._due.get(user_id) == due:
            del self._due[user_id]

    def _has_looked(self, user_id: str, look: asyncio.Task[None]) -> None:
        del self._looks[user_id]
        if not look.cancelled() and (bug := look.exception()):
            _log_crash(bug)


def _log_crash(bug: BaseException) -> None:
    log.error("cancel-watch-crashed", **frames_of(bug))
