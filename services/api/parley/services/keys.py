"""API keys: for programs that act for a local account."""

from uuid import UUID

from parley.core import audit
from parley.core.audit import Event
from parley.core.errors import AccountGone, TooManyKeys
from parley.core.ids import new_id
from parley.core.security.cursors import Cursors
from parley.core.security.opaque import digest, new_key, shown_part
from parley.crud.ports import Store
from parley.schemas.keys import ApiKey, CreatedKey, KeyDraft, NewKey
from parley.schemas.paging import Page
from parley.services.liveness import require_live
from parley.services.pages import ById

KEYS_MAX = 100


class KeyService:
    def __init__(self, store: Store, cursors: Cursors) -> None:
        self._store = store
        self._pages = ById(cursors, "keys")

    async def create(
        self, user_id: str, draft: KeyDraft, *, session_id: UUID | None = None
    ) -> CreatedKey:
        """
        `session_id` is of whoever asks; an operator has none.

        Raises:
            TooManyKeys: there are a hundred already.
            AccountGone: there is no local account.
            TokenRefused: the session has ended, here or elsewhere.
        """
        key = new_key()
        kept = NewKey(new_id(), digest(key), shown_part(key), draft.name, draft.expires_at)
        async with self._store.begin(user_id) as tx:
            if await tx.accounts.lock() is None:
                raise AccountGone
            if session_id is not None:
                await require_live(tx, user_id, session_id)
            if await tx.keys.count() >= KEYS_MAX:
                raise TooManyKeys
            created = await tx.keys.create(kept)
        audit.record(Event.KEY_CREATED, user_id, key_id=created.id)
        return CreatedKey(**dict(created), key=key)

    async def newest(self, user_id: str, limit: int, cursor: str | None) -> Page[ApiKey]:
        """
        Newest first.

        Raises:
            InvalidCursor: it was not given to this user for this list.
        """
        after = self._pages.behind(user_id, cursor)
        async with self._store.begin(user_id, read_only=True) as tx:
            found = await tx.keys.newest(limit + 1, after)
        return self._pages.page(user_id, found, limit)

    async def delete(self, user_id: str, key_id: UUID) -> None:
        """
        It is refused from now on.

        Raises:
            KeyNotFound: it is another user's, or nobody's.
        """
        async with self._store.begin(user_id) as tx:
            await tx.keys.delete(key_id)
        audit.record(Event.KEY_DELETED, user_id, key_id=key_id)
