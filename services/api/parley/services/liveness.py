"""Whether a local session still counts: its token alone does not say."""

from collections.abc import Callable
from time import monotonic
from uuid import UUID

from cachetools import TTLCache

from parley.core import audit
from parley.core.audit import Event
from parley.core.errors import TokenRefused
from parley.crud.ports import Store, Transaction

RECHECK_SECONDS = 10.0
REMEMBERED_MAX = 10_000


class LiveSessions:
    """
    Asks the store, and believes its yes for RECHECK_SECONDS.

    What this process ends is over here at once; what another ends, once the yes has run out.
    """

    def __init__(self, store: Store, *, clock: Callable[[], float] = monotonic) -> None:
        self._store = store
        self._live: TTLCache[tuple[str, UUID], None] = TTLCache(
            REMEMBERED_MAX, RECHECK_SECONDS, clock
        )
        self._endings = 0

    async def has(self, user_id: str, session_id: UUID) -> bool:
        if (user_id, session_id) in self._live:
            return True
        endings = self._endings
        async with self._store.begin(user_id, read_only=True) as tx:
            is_live = await tx.sessions.live(session_id)
        # What ended while the store was asked may have been this one.
        if is_live and endings == self._endings:
            self._live[user_id, session_id] = None
        return is_live

    def forget(self, user_id: str) -> None:
        """Believe none of the user's sessions any more without asking."""
        self._endings += 1
        for key in [key for key in self._live if key[0] == user_id]:
            self._live.pop(key, None)


async def require_live(tx: Transaction, user_id: str, session_id: UUID) -> None:
    """
    Before what outlasts a session by far: asked in the transaction that does it and has locked the
    account, and not as it is remembered.

    Raises:
        TokenRefused: it has ended, here or elsewhere.
    """
    if not await tx.sessions.live(session_id):
        refusal = TokenRefused(reason="session-ended")
        audit.record(Event.TOKEN_REFUSED, user_id, reason=refusal.reason)
        raise refusal
