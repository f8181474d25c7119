from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from parley.core.errors import KeyNotFound
from parley.crud.memory.accounts import is_enabled
from parley.crud.memory.tables import StoredKey, Tables, owned
from parley.schemas.keys import ApiKey, NewKey


class MemoryKeys:
    def __init__(self, tables: Tables, user_id: str) -> None:
        self._tables = tables
        self._user_id = user_id

    async def create(self, key: NewKey) -> ApiKey:
        created = ApiKey(
            id=key.id,
            name=key.name,
            prefix=key.prefix,
            created_at=datetime.now(UTC),
            last_used_at=None,
            expires_at=key.expires_at,
        )
        self._tables.api_keys[f"{self._user_id}/{key.id}"] = StoredKey(created, key.hash)
        return created

    async def count(self) -> int:
        return len(owned(self._tables.api_keys, self._user_id))

    async def newest(self, limit: int, after: UUID | None) -> Sequence[ApiKey]:
        keys = [stored.key for stored in owned(self._tables.api_keys, self._user_id).values()]
        keys.sort(key=lambda key: key.id, reverse=True)
        return [key for key in keys if after is None or key.id < after][:limit]

    async def delete(self, key_id: UUID) -> None:
        if self._tables.api_keys.pop(f"{self._user_id}/{key_id}", None) is None:
            raise KeyNotFound

    async def live(self, key_hash: str) -> ApiKey | None:
        if not is_enabled(self._tables, self._user_id):
            return None
        for stored in owned(self._tables.api_keys, self._user_id).values():
            if stored.hash == key_hash and has_not_expired(stored.key):
                return stored.key
        return None

    async def touch(self, key_id: UUID) -> None:
        place = f"{self._user_id}/{key_id}"
        if stored := self._tables.api_keys.get(place):
            used = stored.key.model_copy(update={"last_used_at": datetime.now(UTC)})
            self._tables.api_keys[place] = stored._replace(key=used)


def has_not_expired(key: ApiKey) -> bool:
    return key.expires_at is None or key.expires_at > datetime.now(UTC)
