"""Bytes that are nobody's, and files that have lost theirs."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from parley.crud.ports import Blobs, Ledger
from parley.schemas.files import StoredBlob

GRACE_SECONDS = 172_800
"""
As long as bytes may be alone: what is known of a file is written behind them, and S3 says of what came
in parts when its first one did. The largest file that may be set takes 46 hours at the least pace.
"""
WAITING_MAX = 100_000
"""Of bytes that may go, in memory, before a first file is known: so many say whose they are not."""
PAGE_FILES = 1000
LOOKED_AT_ONCE = 16


class NothingKnown(Exception):
    """Of all the bytes none is a file's: more likely than not it is another database's."""


@dataclass
class Swept:
    """What was found, and whether it was taken away or only looked at."""

    has_taken_away: bool
    blobs: int = 0
    files: int = 0
    orphans: int = 0
    orphan_bytes: int = 0
    unfinished: int = 0
    lost: list[UUID] = field(default_factory=list)
    """Files whose bytes are not there, or not all of them. They stay: their users delete them."""


class Sweep:
    """`tell` hears how far it is, now and then."""

    def __init__(
        self,
        ledger: Ledger,
        blobs: Blobs,
        *,
        tell: Callable[[Swept], object],
        takes_away: bool = True,
        takes_all: bool = False,
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._tell = tell
        self._takes_all = takes_all
        self._swept = Swept(has_taken_away=takes_away)

    async def run(self) -> Swept:
        """
        Raises:
            LedgerClosed: the database's role does not see all users' files.
            NothingKnown: it knows of none of the bytes, and it was not said that all may go.
            AppError: the database or the file store cannot be asked.
        """
        await self._look_through_blobs()
        await self._look_through_files()
        if self._swept.has_taken_away:
            self._swept.unfinished = await self._blobs.delete_unfinished(
                older_than_seconds=GRACE_SECONDS
            )
        return self._swept

    async def _look_through_blobs(self) -> None:
        horizon = datetime.now(UTC) - timedelta(seconds=GRACE_SECONDS)
        # Until there is one that is known, it may be the wrong database.
        is_trusted, waiting = self._takes_all, list[StoredBlob]()
        async for page in self._blobs.pages():
            known = await self._ledger.known([blob.id for blob in page])
            is_trusted = is_trusted or bool(known)
            waiting += [b for b in page if b.modified_at < horizon and b.id not in known]
            if is_trusted or not self._swept.has_taken_away:
                await self._remove(waiting)
                waiting = []
            if len(waiting) > WAITING_MAX:
                break
            self._swept.blobs += len(page)
            self._tell(self._swept)
        if waiting:
            raise NothingKnown

    async def _remove(self, orphans: Sequence[StoredBlob]) -> None:
        if self._swept.has_taken_away:
            await self._blobs.delete([blob.id for blob in orphans])
        self._swept.orphans += len(orphans)
        self._swept.orphan_bytes += sum(blob.size for blob in orphans)

    async def _look_through_files(self) -> None:
        last = None
        while page := await self._ledger.page(last, PAGE_FILES):
            missing = await self._without_bytes(page)
            # One that was deleted meanwhile has lost nothing.
            self._swept.lost += sorted(await self._ledger.known(missing))
            self._swept.files += len(page)
            self._tell(self._swept)
            last = page[-1][0]

    async def _without_bytes(self, page: Sequence[tuple[UUID, int]]) -> list[UUID]:
        room = asyncio.Semaphore(LOOKED_AT_ONCE)

        async def is_whole(file_id: UUID, size: int) -> bool:
            async with room:
                return await self._blobs.size(file_id) == size

        whole = await asyncio.gather(*(is_whole(*file) for file in page))
        return [file[0] for file, is_there in zip(page, whole, strict=True) if not is_there]
