from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from parley.core.errors import FileInUse, FileNotFound, QuotaExceeded
from parley.crud.ports.files import CARRIERS_NAMED
from parley.crud.sql.accounts import hold_account
from parley.crud.sql.dialect import hold_name
from parley.models import FileRow, TurnAttachmentRow, TurnRow, utc_now
from parley.schemas.files import FileMetadata, NewFile, StorageQuota, Usage


class SqlFiles:
    def __init__(self, session: AsyncSession, user_id: str) -> None:
        self._session = session
        self._user_id = user_id
        self._is_mine = FileRow.user_id == user_id

    async def add(self, file: NewFile, quota: StorageQuota) -> FileMetadata:
        await hold_account(self._session, self._user_id)
        # One after the other: two that come at once would each see room for one.
        await hold_name(self._session, f"files of {self._user_id}")
        if not quota.has_room_for(file.size, await self.usage()):
            raise QuotaExceeded(*quota)
        row = await self._session.scalar(
            insert(FileRow)
            .values(user_id=self._user_id, created_at=utc_now(), **file.model_dump())
            .returning(FileRow)
        )
        return FileMetadata.model_validate(row)

    async def get(self, file_id: UUID) -> FileMetadata:
        (file,) = await self.named([file_id])
        return file

    async def named(self, file_ids: Sequence[UUID]) -> Sequence[FileMetadata]:
        query = select(FileRow).where(self._is_mine, FileRow.id.in_(file_ids))
        rows = {row.id: row for row in await self._session.scalars(query)}
        for file_id in file_ids:
            if file_id not in rows:
                raise FileNotFound(file_id)
        return [FileMetadata.model_validate(rows[file_id]) for file_id in file_ids]

    async def newest(self, limit: int, after: UUID | None) -> Sequence[FileMetadata]:
        query = select(FileRow).where(self._is_mine)
        if after is not None:
            query = query.where(FileRow.id < after)
        query = query.order_by(FileRow.id.desc()).limit(limit)
        return [FileMetadata.model_validate(row) for row in await self._session.scalars(query)]

    async def usage(self) -> Usage:
        total = func.coalesce(func.sum(FileRow.size), 0)
        query = select(total, func.count()).select_from(FileRow).where(self._is_mine)
        size, count = (await self._session.execute(query)).one()
        # PostgreSQL's sum of bigints is a numeric.
        return Usage(int(size), count)

    async def delete(self, file_id: UUID) -> None:
        if conversation_ids := await self._carried_in(file_id):
            raise FileInUse(conversation_ids)
        try:
            deleted = await self._session.scalar(
                delete(FileRow).where(self._is_mine, FileRow.id == file_id).returning(FileRow.id)
            )
        except IntegrityError as error:
            # The one constraint that can fail: a turn carries it, since a moment ago.
            raise FileInUse from error
        if deleted is None:
            raise FileNotFound(file_id)

    async def _carried_in(self, file_id: UUID) -> Sequence[UUID]:
        query = (
            select(TurnRow.conversation_id)
            .join(TurnAttachmentRow, TurnAttachmentRow.turn_id == TurnRow.id)
            .where(
                TurnRow.user_id == self._user_id,
                TurnAttachmentRow.user_id == self._user_id,
                TurnAttachmentRow.file_id == file_id,
            )
            .order_by(TurnRow.conversation_id)
            .distinct()
            .limit(CARRIERS_NAMED)
        )
        return [*await self._session.scalars(query)]
