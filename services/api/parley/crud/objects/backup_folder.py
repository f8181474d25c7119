"""A folder of backups: who makes one in it, and which of them stay."""

import fcntl
import os
import re
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from parley.crud.objects.backups import FILES, MANIFEST, Backup, Busy, NotWhole, Unfinished

UNFINISHED = "unfinished"
_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ")


@contextmanager
def alone(backups: Path) -> Generator[Path]:
    """
    The folder, made if it is not there, and nobody else who makes a backup in it.

    Raises:
        Busy: somebody does.
    """
    backups.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(backups, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield backups
    except BlockingIOError as error:
        msg = f"Another backup is being made in {backups}; try again when it has ended"
        raise Busy(msg) from error
    finally:
        os.close(descriptor)


def begin(backups: Path) -> Unfinished:
    """In place of what somebody has left there who did not finish."""
    path = backups / UNFINISHED
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(mode=0o700)
    return Unfinished(path)


def deleted_before(new: Path) -> set[UUID]:
    """The files whose users had deleted them behind one of the backups beside `new`, which may be what was restored."""
    deleted = set[UUID]()
    for path in _beside(new):
        # Of another format, or cut short: it says nothing.
        with suppress(NotWhole):
            deleted.update(Backup(path).manifest().deleted)
    return deleted


def remove_old(new: Path, keep: int, lost: Iterable[UUID]) -> list[Path]:
    """
    Of those beside `new` all but the newest, by their names, so that `keep` are left, and the newest that has the bytes of a
    file which has lost them.

    What has another name stays, and what a link leads to, which is not counted either.
    """
    wanted = {str(file_id) for file_id in lost}
    removed = list[Path]()
    for place, path in enumerate(_beside(new), start=2):
        has = {name for name in wanted if (path / FILES / name).exists()}
        wanted -= has
        if has or place <= keep:
            continue
        # So that nobody takes what is left of it for one, if this is cut short.
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)
        removed.append(path)
    return removed


def _beside(new: Path) -> list[Path]:
    """The others, the newest first."""
    return sorted(
        (path for path in new.parent.iterdir() if _is_backup(path) and path != new), reverse=True
    )


def _is_backup(path: Path) -> bool:
    return bool(_NAME.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()
