from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple
from uuid import UUID

from parley.crud.ports import SILENCE_SECONDS_MAX, Place, Stretch

SIZE_MAX = 64 * 1024**2
# What a short string is beside its characters.
_PIECE_SIZE = 64


class _Log(NamedTuple):
    pieces: list[str]
    has_ended: bool
    keep_until: float


class MemoryStreamLog:
    """In this process, about 64 MiB at most of turns that have ended: the oldest go first."""

    def __init__(
        self,
        *,
        retention_seconds: float,
        size_max: int = SIZE_MAX,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._retention_seconds = retention_seconds
        self._size_max = size_max
        self._clock = clock
        self._size = 0
        # In the order in which they were written to.
        self._logs: dict[tuple[str, UUID], _Log] = {}

    async def append(self, stretches: Sequence[Stretch]) -> Sequence[int]:
        reached = [self._append(stretch) for stretch in stretches]
        self._forget()
        return reached

    async def read(self, places: Sequence[Place]) -> Sequence[Stretch]:
        return [self._read(place) for place in places]

    def _append(self, stretch: Stretch) -> int:
        key = (stretch.user_id, stretch.turn_id)
        log = self._logs.pop(key, _Log([], has_ended=False, keep_until=0))
        if stretch.start == len(log.pieces) and not log.has_ended:
            log.pieces.extend(stretch.pieces)
            self._size += _size(stretch.pieces)
            log = log._replace(has_ended=stretch.is_last)
        seconds = self._retention_seconds + (0 if log.has_ended else SILENCE_SECONDS_MAX)
        self._logs[key] = log._replace(keep_until=self._clock() + seconds)
        return len(log.pieces) + log.has_ended

    def _read(self, place: Place) -> Stretch:
        log = self._logs.get((place.user_id, place.turn_id))
        if log is None or log.keep_until < self._clock():
            return Stretch(*place, (), is_last=False)
        return Stretch(*place, log.pieces[place.start :], log.has_ended)

    def _forget(self) -> None:
        """From the oldest on, up to the first that may stay."""
        now, gone = self._clock(), []
        size = self._size
        for key, log in self._logs.items():
            if log.keep_until < now or (log.has_ended and size > self._size_max):
                gone.append(key)
                size -= _size(log.pieces)
            elif log.has_ended:
                break
        for key in gone:
            del self._logs[key]
        self._size = size


def _size(pieces: Sequence[str]) -> int:
    return sum(map(len, pieces)) + _PIECE_SIZE * len(pieces)
