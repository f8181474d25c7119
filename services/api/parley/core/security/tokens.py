"""Who is calling: issue an access token, verify it, learn a `Principal`."""

import re
import time
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import jwt

from parley.core.errors import Unauthenticated
from parley.core.ids import new_id

ISSUER = AUDIENCE = "parley"
TYPE = "at+jwt"
ALGORITHM = "HS256"
LEEWAY_SECONDS = 60
YEAR_10000 = 253_402_300_800
_USER_ID = re.compile("[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Principal:
    """`session_id` is that of a local session; None where an API key or another issuer speaks."""

    user_id: str
    session_id: UUID | None = None


class Verified(NamedTuple):
    """A token that is what it says; `expires_at` is in seconds since 1970."""

    principal: Principal
    expires_at: float


class TokenVerifier(Protocol):
    """Believes one other issuer's tokens, and nobody else's."""

    async def verify(self, token: str) -> Verified:
        """
        Raises:
            Unauthenticated: malformed, of another type, issuer or audience, not signed by one of
                its keys, expired, or from the future by more than a minute.
            IssuerUnavailable: its keys are not known, and it cannot be asked for them now.
        """
        ...


class LocalTokens:
    """
    Parley's own access tokens: HS256 over AUTH_SECRET's UTF-8 bytes, in the form of RFC 9068.

    A token is believed for as long as it lasts; nothing is looked up.
    """

    def __init__(self, secret: str, *, lifetime_seconds: int) -> None:
        self._secret = secret.encode()
        self.lifetime_seconds = lifetime_seconds

    def issue(self, user_id: str) -> str:
        now = int(time.time())
        claims = {
            "sub": user_id,
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + self.lifetime_seconds,
            "jti": str(new_id()),
        }
        return jwt.encode(claims, self._secret, ALGORITHM, headers={"typ": TYPE})

    def verify(self, token: str) -> Principal:
        """
        Raises:
            Unauthenticated: malformed, of another type, issuer or audience, not signed by this
                secret, expired, or from the future by more than a minute.
        """
        try:
            decoded = jwt.decode_complete(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=LEEWAY_SECONDS,
                options={
                    "require": ["sub", "iss", "aud", "iat", "exp", "jti"],
                    "strict_aud": True,
                },
            )
            return _principal(decoded["header"], decoded["payload"])
        except (jwt.InvalidTokenError, ValueError, OverflowError) as error:
            msg = "The access token is not valid, or no longer. Log in for a new one."
            raise Unauthenticated(msg) from error


def _principal(header: dict[str, Any], claims: dict[str, Any]) -> Principal:
    user_id, expires_at, now = claims["sub"], claims["exp"], time.time()
    if header.get("typ") != TYPE or not _USER_ID.fullmatch(user_id):
        raise jwt.InvalidTokenError
    # The leeway is for clocks that differ, not for a token that has run out, or never does.
    if type(expires_at) not in (int, float) or not now < expires_at < YEAR_10000:
        raise jwt.ExpiredSignatureError
    return Principal(user_id)
