"""A turn runs in a task of its own: sockets come and go, the turn does not."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import structlog

from parley.core.errors import (
    AppError,
    ConversationNotFound,
    Draining,
    InternalError,
    WorkerLost,
)
from parley.core.logging import frames_of
from parley.crud.ports import Store
from parley.schemas.problem import Problem
from parley.schemas.turns import ChatReply, Delta, NewTurn, Turn, TurnStarted, TurnStatus
from parley.services.streams import Slot

SETTLE_SECONDS = 1.0
LAST_WORDS_SECONDS = 5.0

Event = TurnStarted | Delta | ChatReply

log = structlog.get_logger(__name__)


def problem_of(error: AppError) -> Problem:
    return Problem.model_validate(error.members)


class LiveTurn:
    """
    What a running turn has said so far, for any number of readers at any pace.

    The turn's task is its only writer. A reader who leaves takes nothing along.
    """

    def __init__(self, user_id: str, turn: NewTurn) -> None:
        self.user_id = user_id
        self.turn = turn
        # The store may have it as running, and is still to be told how it ended.
        self.is_open = False
        self.interruption: AppError | None = None
        self._patience: asyncio.Timeout | None = None
        # Pieces as bare text: there may be a hundred thousand of them.
        self._events: list[TurnStarted | str | ChatReply] = []
        self._error: AppError | None = None
        self._has_ended = False
        self._news = asyncio.Event()

    def publish(self, event: TurnStarted | str | ChatReply) -> None:
        """A piece of the reply is its text."""
        self._events.append(event)
        self._tell()

    def finish(self, reply: ChatReply) -> None:
        self._has_ended = True
        self.publish(reply)

    def fail(self, error: AppError) -> None:
        self._has_ended = True
        self._error = error
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def read(self) -> AsyncGenerator[Event]:
        """
        Everything from the first event on; the last one is the recorded turn.

        Raises:
            AppError: how the turn failed, or why it was refused if nothing was yielded.
        """
        position = 0
        while True:
            while position < len(self._events):
                event = self._events[position]
                yield Delta(text=event) if isinstance(event, str) else event
                position += 1
            if self._has_ended:
                break
            await self._news.wait()
        if self._error is not None:
            raise self._error

    @asynccontextmanager
    async def patience(self) -> AsyncGenerator[asyncio.Timeout]:
        """A time-out to set; `interrupt` lets it run out at once."""
        try:
            async with asyncio.timeout(None) as self._patience:
                yield self._patience
        finally:
            self._patience = None

    def interrupt(self, reason: AppError) -> None:
        """Stop listening to the model; a turn that listens no more is about to end anyway."""
        self.interruption = reason
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())


class TurnRunner:
    """Keeps the tasks, and sees to it that each turn ends in the store whatever happens here."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: dict[asyncio.Task[None], LiveTurn] = {}
        self._is_closed = False
        self.is_draining = False

    def start(
        self,
        user_id: str,
        turn: NewTurn,
        work: Callable[[LiveTurn], Awaitable[ChatReply]],
        slot: Slot | None = None,
    ) -> LiveTurn:
        """
        The `slot` is held until the turn has ended.

        Raises:
            Draining: this process begins nothing new.
        """
        if self._is_closed:
            raise Draining
        live = LiveTurn(user_id, turn)
        task = asyncio.create_task(self._supervise(live, work), name=f"turn {turn.id}")
        self._running[task] = live
        task.add_done_callback(self._running.pop)
        if slot is not None:
            slot.hold()
            task.add_done_callback(lambda _: slot.leave())
        return live

    @property
    def is_busy(self) -> bool:
        return bool(self._running)

    def open(self) -> None:
        self._is_closed = self.is_draining = False

    def announce_stop(self) -> None:
        """Whoever asks is told that this process is about to go; it still begins what comes."""
        self.is_draining = True

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
            live.fail(Draining())
            raise
        except Exception as bug:  # noqa: BLE001 - logged here, and the turn must end
            log.error("turn-crashed", turn_id=str(live.turn.id), **frames_of(bug))
            error = InternalError().about(
                turn_id=live.turn.id, conversation_id=live.turn.conversation_id
            )
        else:
            return
        live.fail(error)
        await self._settle(live, error)

    async def _settle(self, live: LiveTurn, error: AppError) -> None:
        # A commit whose outcome is unknown may have left the turn running, with nobody to run it.
        while live.is_open:
            try:
                async with self._store.begin(live.user_id) as tx:
                    await tx.turns.fail(live.turn, problem_of(error))
                live.is_open = False
            except ConversationNotFound:
                live.is_open = False
            except Exception as failure:  # noqa: BLE001 - whatever it is, it must end some time
                log.warning("turn-not-settled", turn_id=str(live.turn.id), **frames_of(failure))
                await asyncio.sleep(SETTLE_SECONDS)


class TurnService:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, user_id: str, turn_id: UUID) -> Turn:
        """
        Raises:
            TurnNotFound: it is another user's, or nobody's.
        """
        async with self._store.begin(user_id, read_only=True) as tx:
            turn = await tx.turns.get(turn_id)
        if turn.status is not TurnStatus.RUNNING:
            return turn
        async with self._store.begin(user_id) as tx:
            closed = await tx.turns.close_abandoned(turn.conversation_id, problem_of(WorkerLost()))
            return await tx.turns.get(turn_id) if closed else turn
