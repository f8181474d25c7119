"""How often somebody may ask, and how many of them at once."""

import hmac
from collections import Counter
from collections.abc import Callable
from functools import partial
from hashlib import sha256

from parley.core.errors import RateLimited
from parley.core.metrics import LIMITER_FALLBACKS
from parley.core.security.addresses import bucket_of
from parley.crud.ports import Limiter
from parley.schemas.limits import Quota, Standing
from parley.services.shared import Shared

# Far more than any number of tabs need, whatever else is allowed.
REFRESHES = Quota("refresh", 60, 60)
# A process hashes and lets wait 22 passwords, of all who come: nobody is to take the whole queue.
ATTEMPTS_AT_ONCE = 6
PASSWORD_CHANGES_AT_ONCE = 2
# Each may read all that its user has said, on a connection of its own.
SEARCHES_AT_ONCE = 2


class Crowd:
    """So many may be inside at once under one key, in this process; only they are remembered."""

    def __init__(self, name: str, most: int) -> None:
        self.name = name
        self.inside: Counter[str] = Counter()
        self._most = most

    def enter(self, key: str) -> Callable[[], None]:
        """
        Returns what is to be called on leaving, once.

        Raises:
            RateLimited: as many are inside.
        """
        if self.inside[key] >= self._most:
            raise RateLimited
        self.inside[key] += 1
        return partial(self._leave, key)

    def _leave(self, key: str) -> None:
        self.inside[key] -= 1
        if not self.inside[key]:
            del self.inside[key]


class LimitService:
    """
    Counts for all processes; by itself alone where there is nothing shared, or it is away.

    `key` hides addresses and e-mail addresses: neither is in a key that Redis sees.
    """

    def __init__(
        self,
        own: Limiter,
        shared: Shared | None,
        *,
        chat: Quota,
        address: Quota,
        keyed_at_once: int,
        key: bytes,
    ) -> None:
        self._own = own
        self._shared = shared
        self._chat = chat
        self._address = address
        self._account = address.third("account")
        self._password = self._account._replace(name="password")
        for quota in (chat, address, self._account, self._password, REFRESHES):
            LIMITER_FALLBACKS.labels(quota.name)  # before the first, for its rate
        self._key = key
        self.attempts = Crowd("address-at-once", ATTEMPTS_AT_ONCE)
        self.password_changes = Crowd("password-at-once", PASSWORD_CHANGES_AT_ONCE)
        # Retries cost no turn, only the connection that they wait on.
        self.keyed = Crowd("keyed-at-once", keyed_at_once)
        self.searches = Crowd("search-at-once", SEARCHES_AT_ONCE)

    async def chat(self, user_id: str) -> Standing:
        return await self._hit(self._chat, user_id)

    async def address(self, address: str | None) -> Standing:
        """One who wants to log in or to register, whoever they say they are."""
        return await self._hit(self._address, self._hidden(bucket_of(address)))

    async def account(self, address: str | None, email: str) -> Standing:
        """
        The same, for one account; `email` is normalised.

        With the address, or anybody could use up what its owner may try.
        """
        return await self._hit(self._account, self._hidden(bucket_of(address), email))

    async def password(self, user_id: str) -> Standing:
        """One who says that they know the password: as often as for one who logs in."""
        return await self._hit(self._password, user_id)

    async def refresh(self, user_id: str) -> Standing:
        """One who goes on with a session: within the grace each time is a row more."""
        return await self._hit(REFRESHES, user_id)

    async def _hit(self, quota: Quota, key: str) -> Standing:
        # Here as well, so that who makes Redis late gains nothing by it: this process goes on from
        # what it has admitted.
        own = await self._own.hit(quota, key)
        if self._shared is None:
            return own
        shared = await self._shared.ask(lambda common: common.limiter.hit(quota, key))
        if shared is None:
            LIMITER_FALLBACKS.labels(quota.name).inc()
        return shared or own

    def _hidden(self, *parts: str) -> str:
        # No part has a NUL in it.
        return hmac.new(self._key, "\0".join(parts).encode(), sha256).hexdigest()
