"""A folder of this machine, or one that several mount."""

import os
import re
import shutil
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from errno import ELOOP, ENOTDIR
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from obstore.store import LocalStore

from parley.crud.objects.blobs import ObjectBlobs
from parley.schemas.files import StoredBlob

if TYPE_CHECKING:
    from obstore import WritableFile

# What the library writes into before it gives it its name.
_UNFINISHED = re.compile(r"[0-9a-f-]{36}#[0-9]+")


class FolderBlobs(ObjectBlobs):
    """The folder is made when a file comes and it is not there: who only looks makes nothing."""

    def __init__(self, path: Path) -> None:
        super().__init__(lambda: LocalStore(path))
        self._path = path

    async def pages(self) -> AsyncGenerator[Sequence[StoredBlob]]:
        if await self._in_thread(self._path.is_dir):
            async for page in super().pages():
                yield page

    async def delete_unfinished(self, *, older_than_seconds: float) -> int:
        return await self._in_thread(self._delete_unfinished, older_than_seconds)

    async def room(self) -> int | None:
        # Who asks is about to write.
        return await self._in_thread(self._room, is_writing=True)

    def open_to_write(self, name: str) -> "WritableFile":
        # What users have uploaded is nobody else's on this machine.
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return super().open_to_write(name)

    def settle(self, name: str) -> None:
        """On the disk, and in the folder: its metadata will be, and must not be alone."""
        for path in (self._path / name, self._path):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def require_there(self) -> None:
        if not self._path.is_dir():
            raise NotADirectoryError(ENOTDIR, "There is no such folder", str(self._path))

    def head(self, name: str) -> int:
        return _plain(os.lstat(self._path / name)).st_size

    def read_at(self, name: str, start: int, end: int) -> bytes:
        # The library would follow a link to wherever it leads, and wait for whoever writes into a pipe;
        # and reading takes it forty times the work of this.
        descriptor = _open_no_link(self._path / name)
        try:
            _plain(os.fstat(descriptor))
            return os.pread(descriptor, end - start, start)
        finally:
            os.close(descriptor)

    def _room(self) -> int:
        there = next(path for path in (self._path, *self._path.parents) if path.exists())
        return shutil.disk_usage(there).free

    def _delete_unfinished(self, older_than_seconds: float) -> int:
        horizon = time.time() - older_than_seconds
        deleted = 0
        for path in self._unfinished():
            with suppress(FileNotFoundError):  # it has ended meanwhile
                if path.stat().st_mtime < horizon:
                    path.unlink()
                    deleted += 1
        return deleted

    def _unfinished(self) -> Iterator[Path]:
        if not self._path.is_dir():
            return
        with os.scandir(self._path) as entries:
            for entry in entries:
                if _UNFINISHED.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)


def _open_no_link(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == ELOOP:
            raise FileNotFoundError(path) from error
        raise


def _plain(status: os.stat_result) -> os.stat_result:
    """Of a file, and of nothing that only looks like one."""
    if not S_ISREG(status.st_mode):
        raise FileNotFoundError
    return status
