"""
The folder in which each process of a server keeps its counts for the others.

https://prometheus.github.io/client_python/multiprocess/
"""

import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from time import monotonic, sleep

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_OF_THE_DEAD = "dead"
PATIENCE_SECONDS = 1.0
PAUSE_SECONDS = 0.01


def exposition(own: CollectorRegistry) -> bytes:
    """What Prometheus is told: of all processes where there is a folder, else of this one alone."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        return generate_latest(own)
    registry = CollectorRegistry()
    registry.register(_Counts(Path(folder)))
    with _opened(Path(folder)) as descriptor:
        flock(descriptor, LOCK_SH)
        return generate_latest(registry)


class _Counts(Collector):
    """The library's own collector breaks off at a file that a process is just making: it is empty then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        files = [str(path) for path in self._folder.glob("*.db") if _is_made(path)]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


def _is_made(counts: Path) -> bool:
    try:
        return counts.stat().st_size > 0
    except FileNotFoundError:  # what a process held goes at once when it dies
        return False


def bury(folder: Path, dead: list[int]) -> None:
    """
    What a dead process counted goes into one file for all of them; what it held is gone.

    Takes from `dead` whom it has buried, the last first. The library keeps the files of each for
    ever, and would read them at each scrape. One that came between would find the same counts twice,
    or not at all: so it waits.

    Raises:
        OSError: those who are left stay in their own files, and count as ever; TimeoutError where
            somebody has read them for PATIENCE_SECONDS.
    """
    while dead:
        pid = dead[-1]
        mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        with _alone(folder):
            for left in folder.glob(f"*_{pid}.db"):
                kind = left.name.removesuffix(f"_{pid}.db")
                if _is_made(left):  # none of one that was killed as it made it
                    _add(left, folder / f"{kind}_{_OF_THE_DEAD}.db")
                left.unlink()
        dead.pop()


def _add(counts: Path, to: Path) -> None:
    sums = MmapedDict(str(to))  # type: ignore[no-untyped-call]
    try:
        for key, value, *_ in MmapedDict.read_all_values_from_file(counts):  # type: ignore[no-untyped-call]
            before, _ = sums.read_value(key)  # type: ignore[no-untyped-call]
            sums.write_value(key, before + value, 0.0)  # type: ignore[no-untyped-call]
    finally:
        sums.close()  # type: ignore[no-untyped-call]


@contextmanager
def _opened(folder: Path) -> Generator[int]:
    """To be locked between processes; one that dies lets go of it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    with _opened(folder) as descriptor:
        waits_until = monotonic() + PATIENCE_SECONDS
        while True:
            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() > waits_until:
                    raise TimeoutError from None
                sleep(PAUSE_SECONDS)
        yield
