"""
Bytes of files, as objects of whatever store: memory, a folder, or S3.

The library's calls that block, in threads: those that do not, end the process with SIGABRT where it
ends right behind one of them (https://github.com/PyO3/pyo3-async-runtimes/issues/40).
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import obstore
from obstore.store import ObjectStore

from parley.core.errors import AppError, FileLost
from parley.core.ids import new_id
from parley.crud.objects.faults import told
from parley.crud.objects.writing import Writing
from parley.schemas.files import StoredBlob

if TYPE_CHECKING:
    from obstore import WritableFile

THREADS = 16
READ_BYTES = 512 * 1024
PAGE_BLOBS = 1000
DELETED_AT_ONCE = 8
"""Of those that are deleted together."""

Result = TypeVar("Result")


class ObjectBlobs:
    """
    The store is opened, in a thread, when it is first asked for something: a process without it
    serves all that needs no file. `part_bytes` of each that is written are sent on together.
    """

    def __init__(
        self, open_store: Callable[[], ObjectStore], *, part_bytes: int = 1024**2
    ) -> None:
        self._open_store = open_store
        self._store: ObjectStore | None = None
        self._opening = Lock()
        self._part_bytes = part_bytes
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")

    @asynccontextmanager
    async def write(self, file_id: UUID) -> AsyncGenerator["_Writer"]:
        writing = Writing(self, str(file_id))
        try:
            yield _Writer(partial(self._in_thread, writing.write, is_writing=True))
            await self._in_thread(writing.finish, is_writing=True)
        except BaseException:
            with suppress(AppError):
                # Its thread goes on also where nobody waits for it any more.
                await asyncio.shield(self._in_thread(writing.abort))
            raise

    async def read(self, file_id: UUID, start: int, end: int) -> AsyncGenerator[bytes]:
        name = str(file_id)
        if await self._in_thread(self.size_of, name, is_reading=True) < end:
            raise FileLost
        # Piece by piece, and not as one answer: a client may take its time with each.
        for begin in range(start, end, READ_BYTES):
            until = min(begin + READ_BYTES, end)
            piece = await self._in_thread(self.read_at, name, begin, until, is_reading=True)
            if len(piece) < until - begin:
                raise FileLost
            yield piece

    async def size(self, file_id: UUID) -> int | None:
        try:
            return await self._in_thread(self.size_of, str(file_id), is_reading=True)
        except FileLost:
            return None

    async def delete(self, file_ids: Sequence[UUID]) -> None:
        room, failures = asyncio.Semaphore(DELETED_AT_ONCE), list[AppError]()

        async def delete(file_id: UUID) -> None:
            async with room:
                if failures:  # one that is away may take its time to say so for each
                    return
                try:
                    await self._in_thread(self.remove, str(file_id))
                except AppError as failure:
                    failures.append(failure)

        await asyncio.gather(*map(delete, file_ids))
        if failures:
            raise failures[0]

    async def pages(self) -> AsyncGenerator[Sequence[StoredBlob]]:
        pages = await self._in_thread(
            lambda: iter(obstore.list(self.opened(), chunk_size=PAGE_BLOBS))
        )
        while (page := await self._in_thread(next, pages, None)) is not None:
            yield [
                StoredBlob(file_id, found["size"], found["last_modified"])
                for found in page
                if (file_id := _id_of(found["path"])) is not None
            ]

    async def delete_unfinished(self, *, older_than_seconds: float) -> int:
        """An S3 store has them where nobody lists them: its own lifecycle rule takes them away."""
        return 0

    async def room(self) -> int | None:
        return None

    async def check(self) -> None:
        probe = new_id()
        async with self.write(probe) as writer:
            await writer.write(b"parley")
        async for _ in self.read(probe, 0, 6):
            pass
        await self.delete([probe])

    async def close(self) -> None:
        self._threads.shutdown(wait=False)

    # In a thread, all of these.

    def opened(self) -> ObjectStore:
        with self._opening:
            if self._store is None:
                self._store = self._open_store()
            return self._store

    def require_there(self) -> None:
        """
        Raises:
            OSError, BaseError: the store is not there, and so none of its objects is lost.
        """
        try:
            # Of nothing: what is there answers with an empty list.
            next(iter(obstore.list(self.opened(), prefix=str(UUID(int=0)))), None)
        except FileNotFoundError as error:
            msg = "There is no such bucket"
            raise NotADirectoryError(msg) from error

    def open_to_write(self, name: str) -> "WritableFile":
        return obstore.open_writer(
            self.opened(), name, buffer_size=self._part_bytes, max_concurrency=1
        )

    def settle(self, name: str) -> None:
        """What was written lasts."""

    def remove(self, name: str) -> None:
        try:
            obstore.delete(self.opened(), name)
        except FileNotFoundError:
            self.require_there()

    def size_of(self, name: str) -> int:
        try:
            return self.head(name)
        except FileNotFoundError:
            self.require_there()
            raise

    def head(self, name: str) -> int:
        return obstore.head(self.opened(), name)["size"]

    def read_at(self, name: str, start: int, end: int) -> bytes:
        return bytes(obstore.get_range(self.opened(), name, start=start, end=end))

    async def _in_thread(
        self,
        call: Callable[..., Result],
        *args: Any,
        is_writing: bool = False,
        is_reading: bool = False,
    ) -> Result:
        with told(is_writing=is_writing, is_reading=is_reading):
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)


class _Writer:
    def __init__(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._write = write

    async def write(self, data: bytes) -> None:
        await self._write(data)


def _id_of(path: str) -> UUID | None:
    """None for what is no file's: whoever else keeps something there keeps it."""
    try:
        return UUID(path) if len(path) == len(str(UUID(int=0))) else None
    except ValueError:
        return None
