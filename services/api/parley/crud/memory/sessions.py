from datetime import UTC, datetime, timedelta
from uuid import UUID

from parley.crud.memory.accounts import is_enabled
from parley.crud.memory.tables import StoredRefreshToken, Tables, owned
from parley.schemas.accounts import Rotation


class MemorySessions:
    def __init__(self, tables: Tables, user_id: str) -> None:
        self._tables = tables
        self._user_id = user_id

    async def open(self, session_id: UUID, token_hash: str, lifetime_seconds: int) -> None:
        self._put(session_id, token_hash, lifetime_seconds)

    async def use_of(self, token_hash: str, *, grace_seconds: int) -> Rotation | None:
        now = datetime.now(UTC)
        token = self._tables.refresh_tokens.get(f"{self._user_id}/{token_hash}")
        if token is None or token.expires_at <= now:
            return None
        last_use = now - timedelta(seconds=grace_seconds)
        is_reuse = token.used_at is not None and token.used_at < last_use
        return Rotation(token.family, is_reuse=is_reuse)

    async def rotate(
        self, used_hash: str, next_hash: str, *, lifetime_seconds: int, grace_seconds: int
    ) -> Rotation | None:
        use = await self.use_of(used_hash, grace_seconds=grace_seconds)
        if use is None or use.is_reuse:
            return use
        key = f"{self._user_id}/{used_hash}"
        used = self._tables.refresh_tokens[key]
        used_at = used.used_at or datetime.now(UTC)
        self._tables.refresh_tokens[key] = used._replace(used_at=used_at)
        self._put(used.family, next_hash, lifetime_seconds)
        return use

    async def live(self, session_id: UUID) -> bool:
        tokens = owned(self._tables.refresh_tokens, self._user_id).values()
        return is_enabled(self._tables, self._user_id) and any(
            token.family == session_id and token.expires_at > datetime.now(UTC) for token in tokens
        )

    async def close(self, token_hash: str) -> UUID | None:
        token = self._tables.refresh_tokens.get(f"{self._user_id}/{token_hash}")
        if token is None:
            return None
        for key, other in owned(self._tables.refresh_tokens, self._user_id).items():
            if other.family == token.family:
                del self._tables.refresh_tokens[key]
        return token.family

    async def close_all(self) -> None:
        for key in owned(self._tables.refresh_tokens, self._user_id):
            del self._tables.refresh_tokens[key]

    def _put(self, session_id: UUID, token_hash: str, lifetime_seconds: int) -> None:
        for key, token in owned(self._tables.refresh_tokens, self._user_id).items():
            if token.expires_at <= datetime.now(UTC):
                del self._tables.refresh_tokens[key]
        self._tables.refresh_tokens[f"{self._user_id}/{token_hash}"] = StoredRefreshToken(
            session_id, datetime.now(UTC) + timedelta(seconds=lifetime_seconds), None
        )
