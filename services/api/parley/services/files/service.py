"""A user's files: bytes first, then what is known of them."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

from parley.core.errors import (
    AppError,
    DatabaseUnavailable,
    FileNotFound,
    FileTooLarge,
    Overloaded,
    QuotaExceeded,
    StorageFull,
)
from parley.core.ids import new_id
from parley.core.security.cursors import Cursors
from parley.crud.ports import Blobs, BlobWriter, Store
from parley.schemas.files import FileMetadata, NewFile, StorageQuota
from parley.schemas.paging import Page
from parley.services.files.erasing import Eraser
from parley.services.files.types import FileTypes, Sniffer
from parley.services.pages import ById

FILES_MAX = 10_000
"""A user's; they are added up for each that comes."""
UPLOADS_AT_ONCE = 48
"""Of a process. Each keeps a part in memory, of 5 MiB on S3."""
DOWNLOADS_AT_ONCE = 100
"""Likewise: one that is not taken keeps two pieces in memory, 1 MiB."""
RESERVE_BYTES = 64 * 1024**2
"""Of the disk, for all else that is on it."""
LOOK_BYTES = 16 * 1024**2
"""Of all that a process writes: behind so many it looks whether the disk has room for more."""
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Upload:
    """A file that is still on its way. `content_type` is what it says of itself."""

    filename: str
    content_type: str
    pieces: AsyncGenerator[bytes]


class FileService:
    """Every method that names a file raises FileNotFound for another user's or nobody's."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        eraser: Eraser,
        types: FileTypes,
        cursors: Cursors,
        *,
        max_bytes: int,
        quota_bytes: int,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._eraser = eraser
        self._types = types
        self._pages = ById(cursors, "files")
        self._max_bytes = max_bytes
        self._quota = StorageQuota(quota_bytes, FILES_MAX)
        self._uploading = 0
        self._downloading = 0
        self._bytes_since_look = 0

    async def require_room(self, user_id: str, expected_bytes: int) -> None:
        """
        Before any of it is read. What comes meanwhile may take the room: it is looked at again.

        Raises:
            FileTooLarge: so many are more than UPLOAD_MAX_BYTES.
            QuotaExceeded: the user has none for so many.
            StorageFull: the disk has none.
        """
        if expected_bytes > self._max_bytes:
            raise FileTooLarge(self._max_bytes)
        async with self._store.begin(user_id, read_only=True) as tx:
            kept = await tx.files.usage()
        if not self._quota.has_room_for(expected_bytes, kept):
            raise QuotaExceeded(*self._quota)
        await self._require_disk(expected_bytes)

    async def _require_disk(self, expected_bytes: int) -> None:
        room = await self._blobs.room()
        if room is not None and room < expected_bytes + RESERVE_BYTES:
            raise StorageFull

    async def upload(self, user_id: str, upload: Upload) -> FileMetadata:
        """
        Keep a file as it comes, or nothing of it.

        Raises:
            FileTypeRefused: it is of no type that is taken, or not of the one that it says.
            FileTooLarge: it does not end before UPLOAD_MAX_BYTES.
            QuotaExceeded: there is no room for it any more.
            StorageFull, FileStoreUnavailable: the file store does not take it.
            AccountGone: the user's account was deleted.
            Overloaded: as many as this process takes at once are on their way.
            DatabaseUnavailable, Overloaded: whether it was kept is not known; whoever lists files sees.
            AppError: as the pieces say.
        """
        claim = self._types.admit(upload.content_type)
        if self._uploading >= UPLOADS_AT_ONCE:
            msg = "As many files as one process takes are on their way. Try again shortly."
            raise Overloaded(msg)
        file_id = new_id()
        self._uploading += 1
        try:
            async with self._blobs.write(file_id) as writer:
                file = await self._receive(file_id, claim, upload, writer)
        finally:
            self._uploading -= 1
        return await self._keep(user_id, file)

    async def newest(self, user_id: str, limit: int, cursor: str | None) -> Page[FileMetadata]:
        """
        Newest first.

        Raises:
            InvalidCursor: it was not given to this user for this list.
        """
        after = self._pages.behind(user_id, cursor)
        async with self._store.begin(user_id, read_only=True) as tx:
            found = await tx.files.newest(limit + 1, after)
        return self._pages.page(user_id, found, limit)

    async def get(self, user_id: str, file_id: UUID) -> FileMetadata:
        async with self._store.begin(user_id, read_only=True) as tx:
            return await tx.files.get(file_id)

    async def read(self, file: FileMetadata, start: int, end: int) -> AsyncGenerator[bytes]:
        """
        Its bytes from `start` to before `end`. No transaction is open meanwhile.

        Raises:
            FileLost: they are not there any more.
            FileStoreUnavailable: they cannot be had now.
            Overloaded: as many as this process sends at once are on their way.
        """
        if self._downloading >= DOWNLOADS_AT_ONCE:
            msg = "As many files as one process sends are on their way. Try again shortly."
            raise Overloaded(msg)
        self._downloading += 1
        try:
            async for piece in self._blobs.read(file.id, start, end):
                yield piece
        finally:
            self._downloading -= 1

    async def delete(self, user_id: str, file_id: UUID) -> None:
        """
        Raises:
            FileInUse: a message or a running turn carries it.
        """
        async with self._store.begin(user_id) as tx:
            await tx.files.delete(file_id)
        await self._eraser.erase([file_id])

    async def _receive(
        self, file_id: UUID, claim: str, upload: Upload, writer: BlobWriter
    ) -> NewFile:
        seen = _Seen()
        async with aclosing(_gathered(upload.pieces)) as pieces:
            async for piece in pieces:
                if seen.size + len(piece) > self._max_bytes:
                    raise FileTooLarge(self._max_bytes)
                # Of ten that come at once the loop would work on ten pieces between two answers.
                await asyncio.to_thread(seen.take, piece)
                await writer.write(piece)
                await self._look_at_disk(len(piece))
        content_type = await asyncio.to_thread(
            self._types.confirm, claim, upload.filename, seen.sniffer
        )
        return NewFile(
            id=file_id,
            filename=upload.filename,
            content_type=content_type,
            size=seen.size,
            sha256=seen.digest.hexdigest(),
        )

    async def _look_at_disk(self, written_bytes: int) -> None:
        """Now and then; while it is full, each time."""
        self._bytes_since_look += written_bytes
        if self._bytes_since_look >= LOOK_BYTES:
            await self._require_disk(0)
            self._bytes_since_look = 0

    async def _keep(self, user_id: str, file: NewFile) -> FileMetadata:
        try:
            async with self._store.begin(user_id) as tx:
                return await tx.files.add(file, self._quota)
        except (DatabaseUnavailable, Overloaded):
            # It may have been kept, or be kept yet: its bytes stay, and are swept if it was not.
            if kept := await self._found(user_id, file.id):
                return kept
            raise
        except AppError:
            await self._eraser.erase([file.id])
            raise

    async def _found(self, user_id: str, file_id: UUID) -> FileMetadata | None:
        try:
            return await self.get(user_id, file_id)
        except (FileNotFound, DatabaseUnavailable, Overloaded):
            return None


class _Seen:
    """What is learnt of a file as it comes."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.sniffer = Sniffer()
        self.size = 0

    def take(self, piece: bytes) -> None:
        self.digest.update(piece)
        self.sniffer.feed(piece)
        self.size += len(piece)


async def _gathered(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same bytes, in pieces that are worth the way to a thread."""
    kept = bytearray()
    async with aclosing(pieces):
        async for piece in pieces:
            kept += piece
            if len(kept) >= _PIECE_BYTES:
                yield bytes(kept)
                kept.clear()
    if kept:
        yield bytes(kept)
