"""Carries what turns say into the stream log, and out of it to readers elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, product
from typing import TypeVar
from uuid import UUID

import structlog

from parley.core.errors import (
    AppError,
    ConversationNotFound,
    Full,
    InternalError,
    TurnNotFound,
    Unavailable,
)
from parley.core.logging import frames_of
from parley.core.metrics import STREAM_LOG_FAILURES, STREAM_LOG_SECONDS, TURNS_FOLLOWED
from parley.core.places import Places
from parley.core.tasks import cancel
from parley.crud.ports import Place, StreamLog, Stretch
from parley.schemas.turns import Turn, TurnStatus
from parley.services.turns.events import TurnEvents
from parley.services.turns.records import TurnRecords, about, started_by
from parley.services.turns.runner import LiveTurn, TurnRunner

TICK_SECONDS = 0.03
PIECES_AT_ONCE = 500
# So that one question to Redis is answered in its time, also after an outage.
CHARACTERS_AT_ONCE = 250_000
TURNS_AT_ONCE = 20
MIRRORS_AT_ONCE = 5
# How long nothing is heard of a turn before the store is asked what became of it; then twice that.
DOUBT_SECONDS = 1.0
ASKING_AT_ONCE = 4
# How long after its end the last of a turn may still be on its way through the log.
LATE_SECONDS = 2.0

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


class Mirror(TurnEvents):
    """A turn that runs, or ran, in another process, as the log and the store tell it."""

    def __init__(self, user_id: str, turn: Turn) -> None:
        super().__init__()
        self._settle_seconds = TICK_SECONDS
        self.user_id = user_id
        self.turn_id = turn.id
        self.readers = 0
        self.is_heard_out = asyncio.Event()
        self.watching: asyncio.Task[None]
        self.start(started_by(turn))

    def hear(self, stretch: Stretch) -> None:
        if stretch.start != len(self.pieces) or self.end is not None:
            return  # two asked at once
        if stretch.pieces:
            self.say(*stretch.pieces)
        if stretch.is_last:
            self.is_heard_out.set()

    async def until_in_doubt(self, seconds: float) -> None:
        """Until there is nothing more to hear, or nothing was heard for so long."""
        if self.is_heard_out.is_set():
            # It is about to be recorded, or was; unless the store takes nothing now.
            await asyncio.sleep(min(self._settle_seconds, seconds))
            self._settle_seconds *= 2
        while not self.is_heard_out.is_set():
            heard = len(self.pieces)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.is_heard_out.wait()
            if len(self.pieces) == heard:
                return

    def end_unheard(self, error: AppError) -> None:
        """Whatever its readers have had: nobody knows what there was."""
        self.is_whole = False
        self.fail(error)


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

    def __init__(self, log: StreamLog, records: TurnRecords, runner: TurnRunner) -> None:
        for operation, reason in product(("append", "read"), ("away", "full")):
            STREAM_LOG_FAILURES.labels(operation, reason)  # before the first, for its rate
        self._log = log
        self._records = records
        self._runner = runner
        self._carried: dict[LiveTurn, _Carried] = {}
        self._followed: dict[UUID, Mirror] = {}
        self._asking = Places(ASKING_AT_ONCE)
        self._is_needed = asyncio.Event()
        self._moving: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._moving = asyncio.create_task(self._keep_moving())

    async def stop(self) -> None:
        if self._moving is not None:
            await cancel(self._moving)
        for mirror in [*self._followed.values()]:
            await cancel(mirror.watching)
        clock = asyncio.get_running_loop().time
        until = clock() + LATE_SECONDS
        with suppress(Unavailable):
            while await self._write() and clock() < until:
                pass

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
            TURNS_FOLLOWED.inc()
            self._is_needed.set()
        mirror.readers += 1
        return mirror, lambda: self._leave(mirror)

    def _leave(self, mirror: Mirror) -> None:
        mirror.readers -= 1
        if mirror.readers == 0:
            del self._followed[mirror.turn_id]
            TURNS_FOLLOWED.dec()
            mirror.watching.cancel()

    async def _keep_moving(self) -> None:
        while True:
            await self._is_needed.wait()
            await asyncio.sleep(TICK_SECONDS)
            if self._runner.is_letting_go:
                for mirror in self._followed.values():
                    mirror.break_off()
            for move in (self._write, self._read_all):
                await self._try(move)
            if not self._carried and not self._followed:
                self._is_needed.clear()

    async def _try(self, move: Callable[[], Awaitable[object]]) -> None:
        """Each by itself: a log that is full is read all the same."""
        try:
            await move()
        except Unavailable:
            pass  # a later tick tries again; who waits for it asks the store
        except Exception as bug:  # noqa: BLE001 - logged; without the timer nobody hears any more
            log.error("relay-crashed", **frames_of(bug))

    async def _write(self) -> bool:
        """Some of what there is; False where there was nothing."""
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
        for some in _portions(stretches):
            with _measured("append"):
                reached = await self._log.append([stretches[live] for live in some])
            for live, count in zip(some, reached, strict=True):
                if on_its_way := self._carried.get(live):
                    if count > on_its_way.sent:
                        on_its_way.until = None  # it is taken: there was much
                    on_its_way.sent = count
        return bool(stretches)

    async def _read_all(self) -> None:
        await self._read([m for m in self._followed.values() if m.end is None])

    async def _read(self, mirrors: Sequence[Mirror]) -> None:
        for first in range(0, len(mirrors), MIRRORS_AT_ONCE):
            some = mirrors[first : first + MIRRORS_AT_ONCE]
            places = [Place(m.user_id, m.turn_id, len(m.pieces)) for m in some]
            with _measured("read"):
                stretches = await self._log.read(places)
            for mirror, stretch in zip(some, stretches, strict=True):
                mirror.hear(stretch)

    async def _watch(self, mirror: Mirror, turn: Turn) -> None:
        user_id = mirror.user_id
        try:
            doubt_seconds = DOUBT_SECONDS
            late_seconds = LATE_SECONDS
            if turn.status is not TurnStatus.RUNNING:
                late_seconds -= await self._ask(
                    user_id, partial(self._records.seconds_since_end, user_id, turn.id)
                )
            while turn.status is TurnStatus.RUNNING:
                await mirror.until_in_doubt(doubt_seconds)
                turn = await self._ask(user_id, partial(self._records.get, user_id, turn.id))
                doubt_seconds = 2 * DOUBT_SECONDS
            await self._hear_out(mirror, late_seconds)
            await self._ask(user_id, partial(self._records.end, user_id, turn, mirror))
        except TurnNotFound:
            mirror.end_unheard(about(turn, ConversationNotFound()))
        except Exception as bug:  # noqa: BLE001 - logged; its readers must not wait for ever
            log.error("mirror-crashed", turn_id=str(turn.id), **frames_of(bug))
            mirror.end_unheard(about(turn, InternalError()))

    async def _hear_out(self, mirror: Mirror, late_seconds: float) -> None:
        """What the log has of a turn that has ended; the last of it may be a little late."""
        clock = asyncio.get_running_loop().time
        until = clock() + late_seconds
        while not mirror.is_heard_out.is_set():
            heard = len(mirror.pieces)
            with suppress(Unavailable):
                await self._read([mirror])
            if len(mirror.pieces) == heard and not mirror.is_heard_out.is_set():
                if clock() >= until:
                    # Its readers may have had more than was ever written: the end is told to all.
                    mirror.is_whole = False
                    return
                await asyncio.sleep(TICK_SECONDS)

    async def _ask(self, user_id: str, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """
        The store, until it answers. Few at once, and never one without a pause: those who follow
        must not be in the way of those who ask.
        """
        while True:
            try:
                async with self._asking.taken(user_id):
                    return await question()
            except Unavailable:
                await asyncio.sleep(DOUBT_SECONDS)


@contextmanager
def _measured(operation: str) -> Iterator[None]:
    try:
        with STREAM_LOG_SECONDS.labels(operation).time():
            yield
    except Unavailable as failure:
        reason = "full" if isinstance(failure, Full) else "away"
        STREAM_LOG_FAILURES.labels(operation, reason).inc()
        raise


def _portions(stretches: Mapping[LiveTurn, Stretch]) -> Iterator[list[LiveTurn]]:
    some: list[LiveTurn] = []
    characters = 0
    for live, stretch in stretches.items():
        size = sum(map(len, stretch.pieces))
        if some and (len(some) == TURNS_AT_ONCE or characters + size > CHARACTERS_AT_ONCE):
            yield some
            some, characters = [], 0
        some.append(live)
        characters += size
    if some:
        yield some


def _next_of(live: LiveTurn, sent: int) -> Stretch | None:
    pieces = live.pieces[sent : sent + PIECES_AT_ONCE]
    sizes = accumulate(map(len, pieces))
    pieces = pieces[: max(1, sum(size <= CHARACTERS_AT_ONCE for size in sizes))]
    is_last = live.end is not None and sent + len(pieces) == len(live.pieces)
    if not pieces and not (is_last and sent == len(live.pieces)):
        return None
    return Stretch(live.user_id, live.turn.id, sent, pieces, is_last)
