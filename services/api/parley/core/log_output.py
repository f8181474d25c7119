"""Where a server's lines go, so that nobody who reads them slowly, or not at all, holds it up."""

import os
import select
from queue import SimpleQueue
from threading import Thread

import structlog

from parley.core.metrics import LOG_LINES_DROPPED

LINES_MAX = 5_000
LAST_WORDS_SECONDS = 1.0
# As much a pipe takes without waiting where it takes anything: POSIX, `PIPE_BUF`.
_PIECE_BYTES = select.PIPE_BUF

log = structlog.get_logger(__name__)


class LossyOutput:
    """
    Drops a line rather than wait, counts those it drops, and says so as soon as there is room.

    What a `StreamHandler` writes to, which lets one in at a time. `descriptor` is what is written to,
    with nothing in between that keeps lines back.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._dropped = 0

    def write(self, line: str) -> None:
        if self._dropped and self._takes():
            dropped, self._dropped = self._dropped, 0
            log.warning("log-lines-dropped", lines=dropped)
        if not self._takes() or not self._take(line.encode()):
            self._dropped += 1
            LOG_LINES_DROPPED.inc()

    def flush(self) -> None:
        """There is nothing to flush."""

    def _takes(self) -> bool:
        """Whether there is room for a line."""
        raise NotImplementedError

    def _take(self, line: bytes) -> bool:
        raise NotImplementedError


class PromptOutput(LossyOutput):
    """For the process that looks after the others: writes what is taken now."""

    def _takes(self) -> bool:
        return bool(select.select([], [self._descriptor], [], 0)[1])

    def _take(self, line: bytes) -> bool:
        for start in range(0, len(line), _PIECE_BYTES):
            if not self._takes():
                return False
            try:
                os.write(self._descriptor, line[start : start + _PIECE_BYTES])
            except OSError:
                return False
        return True


class QueuedOutput(LossyOutput):
    """For a process that serves: a thread waits in its place, and LINES_MAX lines with it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._lines = SimpleQueue[bytes | None]()
        self._writing = Thread(target=self._write_all, name="log", daemon=True)
        self._writing.start()

    def close(self) -> None:
        """What is read within LAST_WORDS_SECONDS is not lost."""
        self._lines.put(None)
        self._writing.join(LAST_WORDS_SECONDS)

    def _takes(self) -> bool:
        return self._lines.qsize() < LINES_MAX

    def _take(self, line: bytes) -> bool:
        self._lines.put(line)
        return True

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                while line:
                    line = self._write_some(line)
            except OSError:
                # Nobody reads any more. Who does later misses what was said meanwhile.
                LOG_LINES_DROPPED.inc()

    def _write_some(self, line: bytes) -> bytes:
        """Returns the rest, when some was taken or may be."""
        try:
            return line[os.write(self._descriptor, line) :]
        except BlockingIOError:
            # Another who has the same file open may have made it so for all.
            select.select([], [self._descriptor], [])
            return line
