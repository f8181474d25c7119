from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from parley.core.errors import FileInUse, FileNotFound, QuotaExceeded
from parley.crud.memory.accounts import hold_account
from parley.crud.memory.tables import Tables, owned
from parley.crud.ports.files import CARRIERS_NAMED
from parley.schemas.files import FileMetadata, NewFile, StorageQuota, Usage


class MemoryFiles:
    def __init__(self, tables: Tables, user_id: str) -> None:
        self._tables = tables
        self._user_id = user_id

    async def add(self, file: NewFile, quota: StorageQuota) -> FileMetadata:
        hold_account(self._tables, self._user_id)
        if not quota.has_room_for(file.size, await self.usage()):
            raise QuotaExceeded(*quota)
        kept = FileMetadata(**file.model_dump(), created_at=datetime.now(UTC))
        self._tables.files[f"{self._user_id}/{file.id}"] = kept
        return kept

    async def get(self, file_id: UUID) -> FileMetadata:
        try:
            return self._tables.files[f"{self._user_id}/{file_id}"]
        except KeyError:
            raise FileNotFound(file_id) from None

    async def named(self, file_ids: Sequence[UUID]) -> Sequence[FileMetadata]:
        return [await self.get(file_id) for file_id in file_ids]

    async def newest(self, limit: int, after: UUID | None) -> Sequence[FileMetadata]:
        files = sorted(self._mine(), key=lambda file: file.id, reverse=True)
        return [file for file in files if after is None or file.id < after][:limit]

    async def usage(self) -> Usage:
        files = self._mine()
        return Usage(sum(file.size for file in files), len(files))

    async def delete(self, file_id: UUID) -> None:
        file = await self.get(file_id)
        turns = owned(self._tables.turns, self._user_id).values()
        carried_in = {
            stored.turn.conversation_id
            for stored in turns
            if file in stored.turn.message.attachments
        }
        if carried_in:
            raise FileInUse(sorted(carried_in)[:CARRIERS_NAMED])
        del self._tables.files[f"{self._user_id}/{file_id}"]

    def _mine(self) -> list[FileMetadata]:
        return [*owned(self._tables.files, self._user_id).values()]
