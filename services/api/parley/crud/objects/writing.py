"""How one object is written, in threads."""

from threading import Lock
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from obstore import WritableFile


class Target(Protocol):
    def open_to_write(self, name: str) -> "WritableFile": ...

    def settle(self, name: str) -> None: ...

    def remove(self, name: str) -> None: ...


class Writing:
    """
    One step at a time, in whatever threads: who no longer waits for a step does not end it.

    Nothing is there before `finish` has returned; behind `abort` nothing is.
    """

    def __init__(self, target: Target, name: str) -> None:
        self._target = target
        self._name = name
        self._lock = Lock()
        self._writer: WritableFile | None = None
        self._is_over = False

    def write(self, piece: bytes) -> None:
        with self._lock:
            self._write(piece)

    def finish(self) -> None:
        with self._lock:
            self._write(b"")  # also a file that has no bytes is one
            if self._writer is not None and not self._is_over:
                self._writer.close()
                self._target.settle(self._name)

    def abort(self) -> None:
        """Also one that is finished, or whose first step has not begun yet."""
        with self._lock:
            self._is_over = True
            if self._writer is None:
                return
            if self._writer.closed():
                self._target.remove(self._name)
            else:
                self._writer.__exit__(Exception, None, None)

    def _write(self, piece: bytes) -> None:
        if self._is_over:
            return
        if self._writer is None:
            self._writer = self._target.open_to_write(self._name)
        self._writer.write(piece)
