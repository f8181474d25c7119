from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from parley.core.errors import KeyNotFound
from parley.crud.sql.accounts import is_enabled
from parley.models import ApiKeyRow, utc_now
from parley.schemas.keys import ApiKey, NewKey


class SqlKeys:
    def __init__(self, session: AsyncSession, user_id: str) -> None:
        self._session = session
        self._user_id = user_id
        self._is_mine = ApiKeyRow.user_id == user_id

    async def create(self, key: NewKey) -> ApiKey:
        row = await self._session.scalar(
            insert(ApiKeyRow)
            .values(user_id=self._user_id, created_at=utc_now(), **key._asdict())
            .returning(ApiKeyRow)
        )
        return ApiKey.model_validate(row)

    async def count(self) -> int:
        query = select(func.count()).select_from(ApiKeyRow).where(self._is_mine)
        return await self._session.scalar(query) or 0

    async def newest(self, limit: int, after: UUID | None) -> Sequence[ApiKey]:
        query = select(ApiKeyRow).where(self._is_mine)
        if after is not None:
            query = query.where(ApiKeyRow.id < after)
        query = query.order_by(ApiKeyRow.id.desc()).limit(limit)
        return [ApiKey.model_validate(row) for row in await self._session.scalars(query)]

    async def delete(self, key_id: UUID) -> None:
        deleted = await self._session.scalar(
            delete(ApiKeyRow).where(self._is_mine, ApiKeyRow.id == key_id).returning(ApiKeyRow.id)
        )
        if deleted is None:
            raise KeyNotFound

    async def live(self, key_hash: str) -> ApiKey | None:
        row = await self._session.scalar(
            select(ApiKeyRow).where(
                self._is_mine,
                ApiKeyRow.hash == key_hash,
                has_not_expired(),
                is_enabled(self._user_id),
            )
        )
        return None if row is None else ApiKey.model_validate(row)

    async def touch(self, key_id: UUID) -> None:
        await self._session.execute(
            update(ApiKeyRow)
            .where(self._is_mine, ApiKeyRow.id == key_id)
            .values(last_used_at=utc_now())
        )


def has_not_expired() -> ColumnElement[bool]:
    return or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > utc_now())
