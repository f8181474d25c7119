"""What libraries read from the environment while they are imported: set here, before they are."""

import atexit
import os
import tempfile
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

_IN_USE = "in-use"


def stand_alone() -> None:
    """For a command that serves nobody: what it counts, no other process asks for."""
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)


def prepare() -> None:
    # gunicorn fails on an empty one, which is how `.env` says unset; it gets ours from the settings.
    os.environ.pop("WEB_CONCURRENCY", None)
    # Where each process keeps its counts for the others.
    folder = _folder_of_ours()
    _empty(folder)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    atexit.register(_leave, folder, os.getpid())


def _folder_of_ours() -> Path:
    """The one that is given, unless another server counts there: both would count as one."""
    if given := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        folder = Path(given)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _take(folder):
            return folder
    folder = Path(tempfile.mkdtemp(prefix="parley-metrics-"))
    # Whom a server starts has its environment: to it, ours is one that is given.
    _take(folder)
    return folder


def _take(folder: Path) -> bool:
    # Never closed: it is ours as long as one of our processes lives.
    descriptor = os.open(folder / _IN_USE, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True


def _empty(folder: Path) -> None:
    """Of the counts of a run before, and of nothing else."""
    for counts in folder.glob("*.db"):
        counts.unlink()


def _leave(folder: Path, owner: int) -> None:
    # A worker leaves as its parent does, through everything that was to be done at the exit.
    if os.getpid() == owner:
        _empty(folder)
        (folder / _IN_USE).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()
