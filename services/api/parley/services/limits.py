"""How often somebody may ask."""

import hmac
from hashlib import sha256

from parley.core.security.addresses import bucket_of
from parley.crud.ports import Limiter
from parley.schemas.limits import Quota, Standing
from parley.services.shared import Shared


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
        key: bytes,
    ) -> None:
        self._own = own
        self._shared = shared
        self._chat = chat
        self._address = address
        self._account = address.third("account")
        self._key = key

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
        return await self._hit(self._account._replace(name="password"), user_id)

    async def refresh(self, user_id: str) -> Standing:
        """One who goes on with a session: within the grace each time is a row more."""
        return await self._hit(self._chat._replace(name="refresh"), user_id)

    async def _hit(self, quota: Quota, key: str) -> Standing:
        # Here as well, so that who makes Redis late gains nothing by it: this process goes on from
        # what it has admitted.
        own = await self._own.hit(quota, key)
        if self._shared is None:
            return own
        return await self._shared.ask(lambda common: common.limiter.hit(quota, key)) or own

    def _hidden(self, *parts: str) -> str:
        # No part has a NUL in it.
        return hmac.new(self._key, "\0".join(parts).encode(), sha256).hexdigest()
