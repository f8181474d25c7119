"""What libraries read from the environment while they are imported: set here, before they are."""

import atexit
import os
import tempfile
from contextlib import suppress
from pathlib import Path


def stand_alone() -> None:
    """For a command that serves nobody: what it counts, no other process asks for."""
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)


def prepare() -> None:
    # gunicorn fails on an empty one, which is how `.env` says unset; it gets ours from the settings.
    os.environ.pop("WEB_CONCURRENCY", None)
    # Where each process keeps its counts for the others.
    given = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    folder = Path(given or tempfile.mkdtemp(prefix="parley-metrics-"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _empty(folder)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    atexit.register(_leave, folder, os.getpid())


def _empty(folder: Path) -> None:
    """Of the counts of a run before, and of nothing else."""
    for counts in folder.glob("*.db"):
        counts.unlink()


def _leave(folder: Path, owner: int) -> None:
    # A worker leaves as its parent does, through everything that was to be done at the exit.
    if os.getpid() == owner:
        _empty(folder)
        with suppress(OSError):
            folder.rmdir()
