"""A turn runs in a task of its own: sockets come and go, the turn does not."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from uuid import UUID

import structlog

from parley.core.errors import (
    AppError,
    ConversationNotFound,
    Draining,
    InternalError,
    TurnCancelled,
    Unavailable,
    WorkerLost,
)
from parley.core.logging import frames_of
from parley.core.metrics import TURNS_RUNNING
from parley.crud.ports import Store
from parley.schemas.problem import Problem
from parley.schemas.turns import ChatReply, NewTurn, Reply, TurnStarted, TurnStatus
from parley.services.streams import Slot
from parley.services.turns.counting import begin_at_nothing, count_end
from parley.services.turns.events import TurnEvents, problem_of

SETTLE_SECONDS = 1.0
LAST_WORDS_SECONDS = 5.0

log = structlog.get_logger(__name__)


class LiveTurn(TurnEvents):
    """A turn that runs in this process. Its task is its only writer."""

    def __init__(self, user_id: str, turn: NewTurn, request_id: str) -> None:
        super().__init__()
        self.user_id = user_id
        self.turn = turn
        self._request_id = request_id
        # The store may have it as running, and is still to be told how it ended.
        self.is_open = False
        # What is to be recorded, if it comes to that: how long the conversation was, and what was said.
        self.unrecorded: tuple[int, Reply, Problem | None] | None = None
        self.interruption: AppError | None = None
        self._patience: asyncio.Timeout | None = None
        self._accepted_at = 0.0

    def start(self, started: TurnStarted) -> None:
        self._accepted_at = perf_counter()
        super().start(started)

    def finish(self, reply: ChatReply) -> None:
        super().finish(reply)
        count_end(reply, perf_counter() - self._accepted_at)

    def fail(self, error: AppError, recorded: str = "") -> None:
        super().fail(error, recorded)
        # One that others took for lost is counted as lost, by who met it.
        if self.has_started and not isinstance(error, WorkerLost):
            count_end(error, perf_counter() - self._accepted_at)

    @asynccontextmanager
    async def patience(self) -> AsyncGenerator[asyncio.Timeout]:
        """A time-out to set; `interrupt` lets it run out at once."""
        try:
            async with asyncio.timeout(None) as self._patience:
                yield self._patience
        finally:
            self._patience = None

    def told(self, error: AppError) -> AppError:
        """The error, saying which turn it is of, if there is one, and which request began it."""
        if not self.has_started:
            return error
        return error.about(
            turn_id=self.turn.id,
            conversation_id=self.turn.conversation_id,
            request_id=self._request_id,
        )

    def interrupt(self, reason: AppError) -> None:
        """Stop listening to the model; a turn that listens no more is about to end anyway."""
        if self.interruption is not None:
            return
        self.interruption = reason
        # One that is running out already cannot be set any more.
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time())


class TurnRunner:
    """Keeps the tasks, and sees to it that each turn ends in the store whatever happens here."""

    def __init__(self, store: Store) -> None:
        begin_at_nothing()
        self._store = store
        self._running: dict[asyncio.Task[None], LiveTurn] = {}
        self._is_closed = False
        self.is_draining = False
        self.is_letting_go = False

    def start(
        self,
        live: LiveTurn,
        work: Callable[[LiveTurn], Awaitable[ChatReply]],
        slot: Slot,
    ) -> None:
        """
        The `slot` is held until the turn has ended.

        Raises:
            Draining: this process begins nothing new.
        """
        if self._is_closed:
            raise Draining
        task = asyncio.create_task(self._supervise(live, work), name=f"turn {live.turn.id}")
        self._running[task] = live
        task.add_done_callback(self._leave)
        TURNS_RUNNING.inc()
        slot.hold()
        task.add_done_callback(lambda _: slot.leave())

    def _leave(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        TURNS_RUNNING.dec()

    @property
    def is_busy(self) -> bool:
        return bool(self._running)

    def find(self, user_id: str, turn_id: UUID) -> LiveTurn | None:
        """One of this user's that runs here, and has events."""
        running = self._running.values()
        mine = (live for live in running if live.user_id == user_id and live.has_started)
        return next((live for live in mine if live.turn.id == turn_id), None)

    def by_user(self) -> Mapping[str, Sequence[LiveTurn]]:
        running = defaultdict(list)
        for live in self._running.values():
            running[live.user_id].append(live)
        return running

    async def wait_for_end(self, user_id: str, conversation_id: UUID, seconds: float) -> None:
        """Until the user's conversation's turn has ended, if it runs here; for so long at most."""
        tasks = [
            task
            for task, live in self._running.items()
            if live.is_open
            and (live.user_id, live.turn.conversation_id) == (user_id, conversation_id)
        ]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def open(self) -> None:
        self._is_closed = self.is_draining = self.is_letting_go = False

    def announce_stop(self) -> None:
        """Whoever asks is told that this process is about to go; it still begins what comes."""
        self.is_draining = True

    def let_go(self) -> None:
        """Who reads a turn of another process here is to read on at one that stays."""
        self.is_letting_go = True

    async def stop(self, *, grace_seconds: float) -> None:
        """Begin nothing new, let turns finish within the grace, then end them with what they have."""
        self._is_closed = self.is_draining = True
        await self._wait(grace_seconds)
        for live in self._running.values():
            live.interrupt(Draining())
        await self._wait(LAST_WORDS_SECONDS)
        for task in self._running:
            task.cancel()
        await self._wait(LAST_WORDS_SECONDS)

    async def _wait(self, seconds: float) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def _supervise(
        self, live: LiveTurn, work: Callable[[LiveTurn], Awaitable[ChatReply]]
    ) -> None:
        error: AppError
        try:
            live.finish(await work(live))
        except AppError as expected:
            error = expected
        except asyncio.CancelledError:
            # The process goes without waiting any longer; its lease will be found run out.
            live.fail(live.told(Draining()))
            raise
        except Exception as bug:  # noqa: BLE001 - logged here, and the turn must end
            log.error("turn-crashed", turn_id=str(live.turn.id), **frames_of(bug))
            error = live.told(InternalError())
        else:
            return
        live.fail(error)
        await self._settle(live, error)

    async def _settle(self, live: LiveTurn, error: AppError) -> None:
        # A commit whose outcome is unknown may have left the turn running, with nobody to run it. And a
        # reply that is there is recorded also when nobody waits for it any more.
        while live.is_open:
            try:
                async with self._store.begin(live.user_id) as tx:
                    if live.unrecorded is not None:
                        await tx.turns.record(live.turn, *live.unrecorded)
                    else:
                        await tx.turns.close(live.turn, status_of(error), problem_of(error))
                live.is_open = False
            except (ConversationNotFound, WorkerLost):
                live.is_open = False
            except Unavailable as failure:
                log.warning("turn-not-settled", turn_id=str(live.turn.id), code=failure.code)
                await asyncio.sleep(SETTLE_SECONDS)
            except Exception as failure:  # noqa: BLE001 - whatever it is, it must end some time
                log.warning("turn-not-settled", turn_id=str(live.turn.id), **frames_of(failure))
                live.unrecorded = None
                await asyncio.sleep(SETTLE_SECONDS)


def status_of(error: AppError) -> TurnStatus:
    """How a turn ended that has no messages."""
    return TurnStatus.CANCELLED if isinstance(error, TurnCancelled) else TurnStatus.FAILED
