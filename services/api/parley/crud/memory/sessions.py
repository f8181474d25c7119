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

    async def rotate(
        self, used_hash: str, next_hash: str, *, lifetime_seconds: int, grace_seconds: int
    ) -> Rotation | None:
        key, now = f"{self._user_id}/{used_hash}", datetime.now(UTC)
        used = self._tables.refresh_tokens.get(key)
        if used is None or used.expires_at <= now:
            return None
        if used.used_at is None:
            self._tables.refresh_tokens[key] = used._replace(used_at=now)
        elif used.used_at < now - timedelta(seconds=grace_seconds):
            return Rotation(used.family, is_reuse=True)
        self._put(used.family, next_hash, lifetime_seconds)
        return Rotation(used.family, is_reuse=False)

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
