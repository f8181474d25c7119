"""The bytes of files, from one file store to another, each held to what is known of it."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from parley.core.errors import FileLost
from parley.crud.ports import Blobs
from parley.schemas.backups import KeptFile

PAGE_FILES = 200
AT_ONCE = 8

Result = TypeVar("Result")


class Differs(Exception):
    """The bytes of this file are not there, or are not those that it says."""


class AlreadyThere(Exception):
    """The target has something else under this id."""


@dataclass
class Copied:
    """How far it is."""

    files: int = 0
    total_bytes: int = 0


class Copying:
    """`tell` hears how far it is, now and then."""

    def __init__(self, source: Blobs, target: Blobs, *, tell: Callable[[Copied], object]) -> None:
        self._source = source
        self._target = target
        self._tell = tell

    async def copy(self, files: Iterable[KeptFile]) -> tuple[Copied, list[KeptFile]]:
        """
        Those that are whole; what is there already stays. The others are in the list.

        Raises:
            StorageFull, FileStoreUnavailable: nothing is left of the one that was on its way.
        """
        copied, missing = Copied(), list[KeptFile]()
        for page in _pages(files):
            sizes = await _at_once(self._copy, page)
            missing += [file for file, size in zip(page, sizes, strict=True) if size is None]
            self._add(copied, [size for size in sizes if size is not None])
        return copied, missing

    async def compare(self, files: Iterable[KeptFile]) -> Copied:
        """
        Look at all that would be copied, and change nothing. That the target takes files is seen first.

        Raises:
            Differs: the source has not what it should have.
            AlreadyThere: the target has something that it should not have.
            StorageFull, FileStoreUnavailable: the target takes none, or one of them cannot be asked.
        """
        await self._target.check()
        compared = Copied()
        for page in _pages(files):
            self._add(compared, await _at_once(self._compare, page))
        return compared

    def _add(self, to: Copied, sizes: list[int]) -> None:
        to.files += len(sizes)
        to.total_bytes += sum(sizes)
        self._tell(to)

    async def _copy(self, file: KeptFile) -> int | None:
        size = await self._source.size(file.id)
        if size is None:
            return None
        if await self._target.size(file.id) is not None:
            return size
        digest = hashlib.sha256()
        try:
            async with (
                self._target.write(file.id) as writer,
                aclosing(self._source.read(file.id, 0, size)) as pieces,
            ):
                async for piece in pieces:
                    digest.update(piece)
                    await writer.write(piece)
                _require(file, digest.hexdigest())
        except (FileLost, Differs):
            return None
        return size

    async def _compare(self, file: KeptFile) -> int:
        size = await self._source.size(file.id)
        if size is None:
            raise Differs(file.id)
        _require(file, await _sha256(self._source, file, size))
        there = await self._target.size(file.id)
        if there is not None and await _sha256(self._target, file, there) != file.sha256:
            raise AlreadyThere(file.id)
        return size


def _require(file: KeptFile, sha256: str | None) -> None:
    if sha256 != file.sha256:
        raise Differs(file.id)


async def _sha256(blobs: Blobs, file: KeptFile, size: int) -> str | None:
    digest = hashlib.sha256()
    try:
        async with aclosing(blobs.read(file.id, 0, size)) as pieces:
            async for piece in pieces:
                digest.update(piece)
    except FileLost:
        return None
    return digest.hexdigest()


def _pages(files: Iterable[KeptFile]) -> Iterator[list[KeptFile]]:
    remaining = iter(files)
    while page := list(islice(remaining, PAGE_FILES)):
        yield page


async def _at_once(
    act: Callable[[KeptFile], Awaitable[Result]], files: list[KeptFile]
) -> list[Result]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(file: KeptFile) -> Result:
        async with room:
            return await act(file)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(file)) for file in files]
    except ExceptionGroup as failures:
        # One of them is as good as all: behind the first, nothing goes on.
        first = failures.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]
