from uuid import UUID

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from parley.crud.sql.accounts import is_enabled
from parley.models import RefreshTokenRow, utc_now
from parley.schemas.accounts import Rotation


class SqlSessions:
    def __init__(self, session: AsyncSession, user_id: str) -> None:
        self._session = session
        self._user_id = user_id
        self._is_mine = RefreshTokenRow.user_id == user_id

    async def open(self, session_id: UUID, token_hash: str, lifetime_seconds: int) -> None:
        await self._add(session_id, token_hash, lifetime_seconds)

    async def rotate(
        self, used_hash: str, next_hash: str, *, lifetime_seconds: int, grace_seconds: int
    ) -> Rotation | None:
        query = select(
            RefreshTokenRow.family,
            RefreshTokenRow.used_at,
            (RefreshTokenRow.used_at < utc_now(-grace_seconds)).label("is_reuse"),
        ).where(
            self._is_mine,
            RefreshTokenRow.hash == used_hash,
            RefreshTokenRow.expires_at > utc_now(),
        )
        used = (await self._session.execute(query)).one_or_none()
        if used is None:
            return None
        if used.is_reuse:
            return Rotation(used.family, is_reuse=True)
        if used.used_at is None:
            await self._session.execute(
                update(RefreshTokenRow)
                .where(self._is_mine, RefreshTokenRow.hash == used_hash)
                .values(used_at=utc_now())
            )
        await self._add(used.family, next_hash, lifetime_seconds)
        return Rotation(used.family, is_reuse=False)

    async def live(self, session_id: UUID) -> bool:
        token = exists().where(
            self._is_mine,
            RefreshTokenRow.family == session_id,
            RefreshTokenRow.expires_at > utc_now(),
        )
        return bool(await self._session.scalar(select(token & is_enabled(self._user_id))))

    async def close(self, token_hash: str) -> UUID | None:
        family = await self._session.scalar(
            select(RefreshTokenRow.family).where(self._is_mine, RefreshTokenRow.hash == token_hash)
        )
        if family is not None:
            await self._session.execute(
                delete(RefreshTokenRow).where(self._is_mine, RefreshTokenRow.family == family)
            )
        return family

    async def close_all(self) -> None:
        await self._session.execute(delete(RefreshTokenRow).where(self._is_mine))

    async def _add(self, session_id: UUID, token_hash: str, lifetime_seconds: int) -> None:
        # Whoever comes with an expired one is told the same as with an unknown one.
        await self._session.execute(
            delete(RefreshTokenRow).where(self._is_mine, RefreshTokenRow.expires_at <= utc_now())
        )
        await self._session.execute(
            insert(RefreshTokenRow).values(
                user_id=self._user_id,
                family=session_id,
                hash=token_hash,
                expires_at=utc_now(lifetime_seconds),
            )
        )
