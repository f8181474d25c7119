"""Doors to files: to what is known of them, and to their bytes."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from parley.schemas.files import FileMetadata, NewFile, StorageQuota, StoredBlob, Usage

CARRIERS_NAMED = 5


class Files(Protocol):
    """What is known of a user's files. That a message carries one is a turn's business."""

    async def add(self, file: NewFile, quota: StorageQuota) -> FileMetadata:
        """
        The user's from now on. However many come at once, no more than is allowed.

        Raises:
            QuotaExceeded: there is no room for it.
            AccountGone: the user's local account was deleted, and nothing of theirs is to come back.
        """
        ...

    async def get(self, file_id: UUID) -> FileMetadata:
        """
        Raises:
            FileNotFound: it is another user's, or nobody's.
        """
        ...

    async def named(self, file_ids: Sequence[UUID]) -> Sequence[FileMetadata]:
        """
        In the order of the ids.

        Raises:
            FileNotFound: one is another user's, or nobody's.
        """
        ...

    async def newest(self, limit: int, after: UUID | None) -> Sequence[FileMetadata]:
        """The last begun come first; `after` is the last one of the page before."""
        ...

    async def usage(self) -> Usage: ...

    async def delete(self, file_id: UUID) -> None:
        """
        Raises:
            FileNotFound: it is another user's, or nobody's.
            FileInUse: a message or a running turn carries it; with up to CARRIERS_NAMED of their
                conversations.
        """
        ...


class Ledger(Protocol):
    """All files of all users, as only the database's owner sees them: nothing but which there are."""

    async def known(self, file_ids: Sequence[UUID]) -> set[UUID]:
        """Those of them that are somebody's."""
        ...

    async def page(self, after: UUID | None, limit: int) -> Sequence[tuple[UUID, int]]:
        """Ids, in their order, and sizes; `after` is the last one of the page before."""
        ...


class BlobWriter(Protocol):
    async def write(self, data: bytes) -> object: ...


class Blobs(Protocol):
    """
    Bytes, each file's under its id. Never more of a file in memory than a few MiB.

    Every method may raise FileStoreUnavailable.
    """

    def write(self, file_id: UUID) -> AbstractAsyncContextManager[BlobWriter]:
        """
        They are there, and last, after a clean exit; nothing is left after an exception.

        Raises:
            StorageFull: it takes no more, or may only be read.
        """
        ...

    def read(self, file_id: UUID, start: int, end: int) -> AsyncGenerator[bytes]:
        """
        Those from `start` to before `end`, in pieces.

        Raises:
            FileLost: there are none under this id, or too few.
        """
        ...

    async def size(self, file_id: UUID) -> int | None:
        """How many there are; None for an id that has none."""
        ...

    async def delete(self, file_ids: Sequence[UUID]) -> None:
        """Also of ids that have none."""
        ...

    def pages(self) -> AsyncGenerator[Sequence[StoredBlob]]:
        """All there are, a thousand at a time, in no order; what is no file's is left out."""
        ...

    async def delete_unfinished(self, *, older_than_seconds: float) -> int:
        """What was being written by a process that has died; how many there were."""
        ...

    async def room(self) -> int | None:
        """
        How many more bytes it can take; None where nobody can say.

        Raises:
            StorageFull: as `write`.
        """
        ...

    async def check(self) -> None:
        """
        Write, read and delete a few bytes.

        Raises:
            StorageFull: as `write`.
        """
        ...
