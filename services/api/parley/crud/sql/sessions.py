from uuid import UUID

from sqlalchemy import delete, exists, false, func, insert, select, update
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

    async def use_of(self, token_hash: str, *, grace_seconds: int) -> Rotation | None:
        # NULL of one that was never used.
        is_reuse = func.coalesce(RefreshTokenRow.used_at < utc_now(-grace_seconds), false())
        query = select(RefreshTokenRow.family, is_reuse).where(
            self._is_mine,
            RefreshTokenRow.hash == token_hash,
            RefreshTokenRow.expires_at > utc_now(),
        )
        found = (await self._session.execute(query)).one_or_none()
        return None if found is None else Rotation(*found)

    async def rotate(
        self, used_hash: str, next_hash: str, *, lifetime_seconds: int, grace_seconds: int
    ) -> Rotation | None:
        use = await self.use_of(used_hash, grace_seconds=grace_seconds)
        if use is None or use.is_reuse:
            return use
        await self._session.execute(
            update(RefreshTokenRow)
            .where(
                self._is_mine,
                RefreshTokenRow.hash == used_hash,
                # The grace is counted from the first time.
                RefreshTokenRow.used_at.is_(None),
            )
            .values(used_at=utc_now())
        )
        await self._add(use.session_id, next_hash, lifetime_seconds)
        return use

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
