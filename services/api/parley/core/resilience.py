"""What a database's failure means, and when to stop asking it."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from time import monotonic

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from parley.core.errors import AppError, DatabaseUnavailable, Overloaded


class Fault(Enum):
    CONNECTION = auto()  # it cannot be reached: counts towards the breaker
    BUSY = auto()  # it is there and has no room: never does
    CONTENTION = auto()  # this transaction lost to another; a new one may win
    CALLER = auto()  # what was asked cannot be: a constraint, a value
    BUG = auto()


# https://www.postgresql.org/docs/current/errcodes-appendix.html, by the longest prefix
_SQLSTATES = {
    "08": Fault.CONNECTION,
    "28": Fault.CONNECTION,
    "3D000": Fault.CONNECTION,
    "57P01": Fault.CONNECTION,
    "57P02": Fault.CONNECTION,
    "57P03": Fault.CONNECTION,
    "53300": Fault.CONNECTION,
    "25006": Fault.CONNECTION,
    "25P03": Fault.CONNECTION,
    "57014": Fault.BUSY,
    "55P03": Fault.BUSY,
    "53100": Fault.BUSY,
    "53200": Fault.BUSY,
    "40001": Fault.CONTENTION,
    "40P01": Fault.CONTENTION,
    "0A000": Fault.CONTENTION,  # a migration changed what a prepared statement returns
    "22": Fault.CALLER,
    "23": Fault.CALLER,
}
# Between two probes of a database that cannot be reached.
PAUSE_SECONDS = 1.0
_READ_ONLY_STATE = "25006"
_SQLITE_READ_ONLY = 8

# https://www.sqlite.org/rescode.html: CORRUPT, CANTOPEN, NOTADB
_SQLITE_AWAY = {11, 14, 26}
# BUSY, LOCKED, READONLY, IOERR, FULL, PROTOCOL
_SQLITE_BUSY = {5, 6, 8, 10, 13, 15}


def sqlstate(exception: BaseException) -> str | None:
    original = exception.orig if isinstance(exception, DBAPIError) else exception
    state = getattr(original, "sqlstate", None)
    return state if isinstance(state, str) else None


def only_reads(exception: BaseException) -> bool:
    """Whether it is a write to a server or a file that takes none."""
    original = exception.orig if isinstance(exception, DBAPIError) else exception
    code = getattr(original, "sqlite_errorcode", 0) & 0xFF
    return sqlstate(exception) == _READ_ONLY_STATE or code == _SQLITE_READ_ONLY


def classify(exception: BaseException) -> Fault:
    """By type and SQLSTATE only: a message is for people, and may be translated."""
    if isinstance(exception, PoolTimeout):
        return Fault.BUSY
    if state := sqlstate(exception):
        for length in (5, 2):
            if fault := _SQLSTATES.get(state[:length]):
                return fault
    original = exception.orig if isinstance(exception, DBAPIError) else exception
    if isinstance(original, sqlite3.Error):
        return _classify_sqlite(original)
    lost = isinstance(exception, DBAPIError) and exception.connection_invalidated
    unreachable = isinstance(
        original, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError
    )
    return Fault.CONNECTION if lost or unreachable else Fault.BUG


def _classify_sqlite(error: sqlite3.Error) -> Fault:
    if isinstance(error, sqlite3.IntegrityError):
        return Fault.CALLER
    # The low byte is the primary code of an extended one.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _SQLITE_AWAY:
        return Fault.CONNECTION
    return Fault.BUSY if code in _SQLITE_BUSY else Fault.BUG


def as_app_error(exception: Exception) -> AppError | None:
    """What a client is told; None for what is our own fault."""
    match classify(exception):
        case Fault.CONNECTION:
            return DatabaseUnavailable()
        case Fault.BUSY:
            return Overloaded("The database has no room for this now. Try again shortly.")
        case Fault.CONTENTION:
            return Overloaded("Too much happened at once. Try again shortly.")
        case Fault.CALLER | Fault.BUG:
            return None


class Breaker:
    """
    Refuses at once while the database cannot be reached, so that nobody waits for a time-out.

    Trips after `failures` within `window_seconds` that are connection failures; nothing else
    counts. One background probe, and no user's request, finds out when it is back; it has
    `probe_seconds`, which are to do for a connection and an answer. `tell_away` is told
    1 when it trips, and 0 when that is over.
    https://martinfowler.com/bliki/CircuitBreaker.html
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[None]],
        *,
        probe_seconds: float,
        tell_away: Callable[[float], object] = lambda _: None,
        failures: int = 5,
        window_seconds: float = 10,
    ) -> None:
        self._probe = probe
        self._failed_at: deque[float] = deque(maxlen=failures)
        self._window_seconds = window_seconds
        self._probe_seconds = probe_seconds
        self._tell_away = tell_away
        self._times_opened = 0
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._probing is not None

    @contextmanager
    def guard(self) -> Iterator[None]:
        """
        Raises:
            DatabaseUnavailable: the breaker is open.
        """
        if self.is_open:
            raise DatabaseUnavailable
        began_in = self._times_opened
        try:
            yield
        except Exception as exception:
            # A late result of a call that began before it last opened says nothing new.
            if classify(exception) is Fault.CONNECTION and began_in == self._times_opened:
                self._count()
            raise

    def _count(self) -> None:
        now = monotonic()
        self._failed_at.append(now)
        if (
            len(self._failed_at) == self._failed_at.maxlen
            and now - self._failed_at[0] <= self._window_seconds
        ):
            self._times_opened += 1
            self._tell_away(1)
            self._probing = asyncio.create_task(self._until_it_answers())

    async def _until_it_answers(self) -> None:
        try:
            while not await self._answers():  # noqa: ASYNC110 - what is awaited is not ours
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._failed_at.clear()
            self._tell_away(0)
            self._probing = None

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(self._probe_seconds):
                await self._probe()
        except Exception as exception:
            if classify(exception) is Fault.BUG:
                raise
            return False
        return True

    async def close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            with suppress(asyncio.CancelledError):
                await self._probing
            # One that was cancelled before it began has not said so itself.
            self._tell_away(0)
            self._probing = None
