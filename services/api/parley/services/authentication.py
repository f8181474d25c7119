"""From what a request shows to the user that it speaks for."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import jwt
from cachetools import TLRUCache

from parley.core.errors import TokenRefused
from parley.core.security.opaque import KEY_PREFIX, digest
from parley.core.security.tokens import ISSUER, LocalTokens, Principal, TokenVerifier, Verified
from parley.crud.ports import Store
from parley.schemas.accounts import KeyCredential
from parley.schemas.keys import ApiKey
from parley.services.better_auth import BetterAuth
from parley.services.liveness import LiveSessions

TOKEN_CHARACTERS_MAX = 8192
REMEMBERED_MAX = 10_000
REMEMBERED_SECONDS = 300.0
KEY_USE_SECONDS = 60


class Authentication:
    """
    Each token goes to the one verifier that its form and its issuer name.

    A signature is checked once and then remembered, for minutes and never past the token's end.
    Whether a session of a local account is still open is asked at most every ten seconds, an API
    key each time.
    """

    def __init__(
        self,
        store: Store,
        live: LiveSessions,
        *,
        local: LocalTokens | None,
        issuers: Mapping[str, TokenVerifier],
        better_auth: BetterAuth | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._live = live
        self._local = local
        self._issuers = issuers
        self._better_auth = better_auth
        self._verified: TLRUCache[bytes, Verified] = TLRUCache(
            REMEMBERED_MAX,
            ttu=lambda _, verified, now: min(verified.expires_at, now + REMEMBERED_SECONDS),
            timer=clock,
        )

    async def of_bearer(self, token: str) -> Principal:
        """
        Raises:
            TokenRefused: it is no token that is believed here, or not any more.
            IssuerUnavailable: its issuer's keys are not known, and cannot be had now.
        """
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise TokenRefused
        # A JWT has two, an API key none.
        if token.count(".") == 1:
            return await self.of_session(token)
        if self._local is not None and token.startswith(KEY_PREFIX):
            return await self._of_key(token)
        principal = (await self._verify(token)).principal
        session_id = principal.session_id
        if session_id and not await self._live.has(principal.user_id, session_id):
            raise TokenRefused(reason="session-ended")
        return principal

    async def of_session(self, signed: str) -> Principal:
        """
        Better Auth's, as its cookie carries it, and nothing else that a cookie could.

        Raises:
            TokenRefused: it is not signed by Better Auth, has ended, or is not believed here.
        """
        if self._better_auth is None or len(signed) > TOKEN_CHARACTERS_MAX:
            raise TokenRefused
        return await self._better_auth.of_session(signed)

    async def _verify(self, token: str) -> Verified:
        place = sha256(token.encode()).digest()
        if (known := self._verified.get(place)) is not None:
            return known
        issuer = _issuer_of(token)
        if issuer == ISSUER and self._local is not None:
            verified = self._local.verify(token)
        elif (verifier := self._issuers.get(issuer)) is not None:
            verified = await verifier.verify(token)
        else:
            raise TokenRefused
        self._verified[place] = verified
        return verified

    async def _of_key(self, token: str) -> Principal:
        key_hash = digest(token)
        user_id = await self._store.resolve(KeyCredential(key_hash))
        if user_id is None:
            raise TokenRefused
        async with self._store.begin(user_id, read_only=True) as tx:
            key = await tx.keys.live(key_hash)
        if key is None:
            raise TokenRefused
        if _was_used_long_ago(key):
            async with self._store.begin(user_id) as tx:
                await tx.keys.touch(key.id)
        return Principal(user_id, is_key=True)


def _issuer_of(token: str) -> str:
    """Whom the token says that it is from; believed only once that issuer's key has verified it."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError) as error:
        raise TokenRefused from error
    return str(claims.get("iss"))


def _was_used_long_ago(key: ApiKey) -> bool:
    horizon = datetime.now(UTC) - timedelta(seconds=KEY_USE_SECONDS)
    return key.last_used_at is None or key.last_used_at < horizon
