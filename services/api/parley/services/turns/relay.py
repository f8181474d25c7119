"""Carries what turns say into the stream log, and out of it to readers elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

import structlog

from parley.core.errors import ConversationNotFound, InternalError, TurnNotFound, Unavailable
from parley.core.logging import frames_of
from parley.core.tasks import cancel
from parley.crud.ports import Place, StreamLog, Stretch
from parley.schemas.turns import Turn, TurnStatus
from parley.services.turns.events import TurnEvents
from parley.services.turns.records import TurnRecords, started_by
from parley.services.turns.runner import LiveTurn

TICK_SECONDS = 0.03
PIECES_AT_ONCE = 2000
READ_AT_ONCE = 50
# How long nothing is heard of a turn before the store is asked what became of it.
DOUBT_SECONDS = 1.0
# How long after its end the last of a turn may still be on its way through the log.
LATE_SECONDS = 2.0

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


class Mirror(TurnEvents):
    """A turn that runs, or ran, in another process, as the log and the store tell it."""

    def __init__(self, user_id: str, turn: Turn) -> None:
        super().__init__()
        self.user_id = user_id
        self.turn_id = turn.id
        self.readers = 0
        self.is_heard_out = asyncio.Event()
        self.watching: asyncio.Task[None] | None = None
        self.start(started_by(turn))

    def hear(self, stretch: Stretch) -> None:
        if stretch.start != len(self.pieces) or self.end is not None:
            return  # two asked at once
        if stretch.pieces:
            self.say(*stretch.pieces)
        if stretch.is_last:
            self.is_heard_out.set()

    async def until_in_doubt(self) -> None:
        """Until there is nothing more to hear, or nothing was heard for a while."""
        if self.is_heard_out.is_set():
            # It is about to be recorded, or was.
            await asyncio.sleep(TICK_SECONDS)
        while not self.is_heard_out.is_set():
            heard = len(self.pieces)
            with suppress(TimeoutError):
                async with asyncio.timeout(DOUBT_SECONDS):
                    await self.is_heard_out.wait()
            if len(self.pieces) == heard:
                return


@dataclass
class _Carried:
    sent: int = 0
    until: float | None = None


class Relay:
    """
    One timer for all turns: a write for each piece would cost seven times as much as the piece.

    The log is never waited for: who reads a turn in its own process reads the turn itself, and what
    the log has lost, or never got, is in the store once the turn has ended.
    """

    def __init__(self, log: StreamLog, records: TurnRecords) -> None:
        self._log = log
        self._records = records
        self._carried: dict[LiveTurn, _Carried] = {}
        self._followed: dict[UUID, Mirror] = {}
        self._is_needed = asyncio.Event()
        self._moving: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._moving = asyncio.create_task(self._keep_moving())

    async def stop(self) -> None:
        if self._moving is not None:
            await cancel(self._moving)
        for mirror in [*self._followed.values()]:
            self._forget(mirror)
            if mirror.watching is not None:
                await cancel(mirror.watching)
        with suppress(Unavailable):
            await self._write()

    def carry(self, live: LiveTurn) -> None:
        """From its acceptance on, until all of it has been written."""
        self._carried[live] = _Carried()
        self._is_needed.set()

    def follow(self, user_id: str, turn: Turn) -> tuple[Mirror, Callable[[], None]]:
        """Returns what is to be called by who reads no more, once."""
        mirror = self._followed.get(turn.id)
        if mirror is None:
            mirror = self._followed[turn.id] = Mirror(user_id, turn)
            mirror.watching = asyncio.create_task(self._watch(mirror, turn))
            self._is_needed.set()
        mirror.readers += 1
        return mirror, lambda: self._leave(mirror)

    def _leave(self, mirror: Mirror) -> None:
        mirror.readers -= 1
        if mirror.readers == 0:
            self._forget(mirror)

    def _forget(self, mirror: Mirror) -> None:
        if self._followed.get(mirror.turn_id) is mirror:
            del self._followed[mirror.turn_id]
        if mirror.watching is not None:
            mirror.watching.cancel()

    async def _keep_moving(self) -> None:
        while True:
            await self._is_needed.wait()
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self._write()
                await self._read([m for m in self._followed.values() if m.end is None])
            except Unavailable:
                pass  # a later tick tries again; who waits for it asks the store
            except Exception as bug:  # noqa: BLE001 - logged; without the timer nobody hears any more
                log.error("relay-crashed", **frames_of(bug))
            if not self._carried and not self._followed:
                self._is_needed.clear()

    async def _write(self) -> None:
        now = asyncio.get_running_loop().time()
        stretches: dict[LiveTurn, Stretch] = {}
        for live, carried in [*self._carried.items()]:
            if stretch := _next_of(live, carried.sent):
                stretches[live] = stretch
            elif live.end is not None:
                del self._carried[live]
            if live.end is not None:
                carried.until = carried.until or now + LATE_SECONDS
                if carried.until < now:
                    self._carried.pop(live, None)  # it never took it
        if stretches:
            reached = await self._log.append([*stretches.values()])
            for live, count in zip(stretches, reached, strict=True):
                if live in self._carried:
                    self._carried[live].sent = count

    async def _read(self, mirrors: Sequence[Mirror]) -> None:
        for first in range(0, len(mirrors), READ_AT_ONCE):
            some = mirrors[first : first + READ_AT_ONCE]
            places = [Place(m.user_id, m.turn_id, len(m.pieces)) for m in some]
            for mirror, stretch in zip(some, await self._log.read(places), strict=True):
                mirror.hear(stretch)

    async def _watch(self, mirror: Mirror, turn: Turn) -> None:
        try:
            while turn.status is TurnStatus.RUNNING:
                await mirror.until_in_doubt()
                turn = await _insist(partial(self._records.get, mirror.user_id, turn.id))
            await self._hear_out(mirror, turn)
            # Of what was not recorded, only the log knows how much it was.
            mirror.is_whole = mirror.is_heard_out.is_set() or turn.reply is not None
            await _insist(partial(self._records.end, mirror.user_id, turn, mirror))
        except TurnNotFound:
            gone = ConversationNotFound()
            mirror.fail(gone.about(turn_id=turn.id, conversation_id=turn.conversation_id))
        except Exception as bug:  # noqa: BLE001 - logged; its readers must not wait for ever
            log.error("mirror-crashed", turn_id=str(turn.id), **frames_of(bug))
            mirror.fail(
                InternalError().about(turn_id=turn.id, conversation_id=turn.conversation_id)
            )

    async def _hear_out(self, mirror: Mirror, turn: Turn) -> None:
        """What the log has of a turn that has ended; the last of it may be a little late."""
        since_end = (datetime.now(UTC) - (turn.ended_at or datetime.now(UTC))).total_seconds()
        clock = asyncio.get_running_loop().time
        until = clock() + LATE_SECONDS if since_end < LATE_SECONDS else clock()
        while not mirror.is_heard_out.is_set():
            heard = len(mirror.pieces)
            with suppress(Unavailable):
                await self._read([mirror])
            if len(mirror.pieces) == heard:
                if clock() >= until:
                    return
                await asyncio.sleep(TICK_SECONDS)


async def _insist(question: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask the store until it answers, and never without a pause between two questions."""
    while True:
        try:
            return await question()
        except Unavailable:
            await asyncio.sleep(DOUBT_SECONDS)


def _next_of(live: LiveTurn, sent: int) -> Stretch | None:
    pieces = live.pieces[sent : sent + PIECES_AT_ONCE]
    is_last = live.end is not None and sent + len(pieces) == len(live.pieces)
    if not pieces and not (is_last and sent == len(live.pieces)):
        return None
    return Stretch(live.user_id, live.turn.id, sent, pieces, is_last)
