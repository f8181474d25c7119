"""Who is calling: issue an access token, verify it, learn a `Principal`."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import jwt

from parley.core.errors import TokenRefused
from parley.core.ids import new_id

ISSUER = AUDIENCE = "parley"
TYPE = "at+jwt"
ALGORITHM = "HS256"
LEEWAY_SECONDS = 60
YEAR_10000 = 253_402_300_800
USER_ID = re.compile("[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Principal:
    """`session_id` is that of a local session; None where an API key or another issuer speaks."""

    user_id: str
    session_id: UUID | None = None
    is_key: bool = False


class Verified(NamedTuple):
    """A token that is what it says; `expires_at` is in seconds since 1970."""

    principal: Principal
    expires_at: float


class TokenVerifier(Protocol):
    """Believes one other issuer's tokens, and nobody else's."""

    async def verify(self, token: str) -> Verified:
        """
        Raises:
            TokenRefused: malformed, of another type, issuer or audience, not signed by one of
                its keys, expired, or from the future by more than a minute.
            IssuerUnavailable: its keys are not known, and it cannot be asked for them now.
        """
        ...


class LocalTokens:
    """
    Parley's own access tokens: HS256 over AUTH_SECRET's UTF-8 bytes, in the form of RFC 9068.

    The first secret signs; those behind it, of before, still verify. Whether the session is still
    open is not in a token, and not for this class to ask.
    """

    def __init__(self, *secrets: str, lifetime_seconds: int) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self.lifetime_seconds = lifetime_seconds

    def issue(self, user_id: str, session_id: UUID) -> str:
        now = int(time.time())
        claims = {
            "sub": user_id,
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + self.lifetime_seconds,
            "jti": str(new_id()),
            "sid": str(session_id),
        }
        return jwt.encode(claims, self._secrets[0], ALGORITHM, headers={"typ": TYPE})

    def verify(self, token: str) -> Verified:
        """
        Raises:
            TokenRefused: malformed, of another type, issuer or audience, not signed by one of
                the secrets, expired, or from the future by more than a minute.
        """
        try:
            decoded = self._decode(token)
            return _verified(decoded["header"], decoded["payload"])
        except (jwt.InvalidTokenError, ValueError, OverflowError) as error:
            raise refusal(error) from error

    def _decode(self, token: str) -> dict[str, Any]:
        *others, last = self._secrets
        for secret in others:
            with suppress(jwt.InvalidSignatureError):
                return _decode(token, secret)
        return _decode(token, last)


def refusal(error: Exception) -> TokenRefused:
    """Of a token that did not verify, and why."""
    is_expired = isinstance(error, jwt.ExpiredSignatureError)
    return TokenRefused(reason="expired" if is_expired else "not-valid")


def _decode(token: str, secret: bytes) -> dict[str, Any]:
    return jwt.decode_complete(
        token,
        secret,
        algorithms=[ALGORITHM],
        audience=AUDIENCE,
        issuer=ISSUER,
        leeway=LEEWAY_SECONDS,
        options={
            "require": ["sub", "iss", "aud", "iat", "exp", "jti", "sid"],
            "strict_aud": True,
        },
    )


def _verified(header: dict[str, Any], claims: dict[str, Any]) -> Verified:
    user_id = claims["sub"]
    if header.get("typ") != TYPE or not USER_ID.fullmatch(user_id):
        raise jwt.InvalidTokenError
    if not isinstance(claims["sid"], str):
        raise jwt.InvalidTokenError
    return Verified(Principal(user_id, UUID(claims["sid"])), expiry(claims))


def expiry(claims: dict[str, Any]) -> float:
    """
    When a token ends, in seconds since 1970.

    The leeway is for clocks that differ, not for a token that has run out, or never does.

    Raises:
        ExpiredSignatureError: it has run out, or `exp` is no moment.
    """
    expires_at = claims["exp"]
    if type(expires_at) not in (int, float) or not time.time() < expires_at < YEAR_10000:
        raise jwt.ExpiredSignatureError
    return float(expires_at)
