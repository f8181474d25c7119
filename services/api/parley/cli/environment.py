"""What libraries read from the environment while they are imported: set here, before they are."""

import atexit
import os
import shutil
import tempfile


def prepare() -> None:
    # gunicorn fails on an empty one, which is how `.env` says unset; it gets ours from the settings.
    os.environ.pop("WEB_CONCURRENCY", None)
    # Where each process keeps its counts for the others; a fresh one, so that none is of another run.
    folder = tempfile.mkdtemp(prefix="parley-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    atexit.register(_remove, folder, os.getpid())


def _remove(folder: str, owner: int) -> None:
    # A worker leaves as its parent does, through everything that was to be done at the exit.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
