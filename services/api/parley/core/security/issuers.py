"""Tokens that somebody else issued: any OpenID Connect issuer's, and Better Auth's."""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import jwt

from parley.core.ids import is_of_local_account
from parley.core.security.keys import KeyCache
from parley.core.security.tokens import (
    LEEWAY_SECONDS,
    USER_ID,
    Principal,
    Verified,
    expiry,
    refusal,
)

OIDC_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
BETTER_AUTH_ALGORITHMS = ("EdDSA", "ES256", "ES512", "PS256", "RS256")
"""All that its JWT plugin can be set to."""
SUBJECT_CHARACTERS_MAX = 255
_MAPPED = "j_"
_TYPES = {"jwt", "at+jwt"}
# What an ID token, a refresh token or a logout token says of itself: Keycloak's `typ`, Cognito's
# `token_use`, and two that only an ID token has (OpenID Connect Core, 3.1.3.6 and 3.3.2.11).
_SAID = {"typ": "bearer", "token_use": "access"}
_OF_AN_ID_TOKEN = {"at_hash", "c_hash"}


class IssuerTokens:
    """
    One issuer's JWTs (RFC 7519), by the rules of RFC 8725; a `TokenVerifier`.

    The key is that of its set which the token's `kid` names, and the key says by which algorithm.
    A token names nothing else that counts: `jku`, `x5u`, `jwk` and `x5c` are not looked at.
    """

    def __init__(
        self,
        keys: KeyCache,
        *,
        issuer: str,
        audience: str,
        algorithms: tuple[str, ...],
        user_id_of: Callable[[str], str],
    ) -> None:
        """`user_id_of` makes a user's id of a subject, or raises ValueError."""
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._algorithms = algorithms
        self._user_id_of = user_id_of

    async def verify(self, token: str) -> Verified:
        """
        Raises:
            TokenRefused: as `TokenVerifier` has it.
            IssuerUnavailable: likewise.
        """
        try:
            key = await self._keys.get(self._key_id(token))
            if key is None:
                raise jwt.InvalidKeyError
            return self._verified(token, key)
        except (jwt.PyJWTError, ValueError, OverflowError) as error:
            raise refusal(error) from error

    def _key_id(self, token: str) -> str:
        """Of a header that may be believed, if the signature is right: nobody is asked before."""
        header = jwt.get_unverified_header(token)
        kid, kind = header.get("kid"), header.get("typ", "JWT")
        # A media type, whose case is nobody's business (RFC 7515, 4.1.9).
        is_access_token = (
            isinstance(kind, str) and kind.lower().removeprefix("application/") in _TYPES
        )
        if (
            header.get("alg") not in self._algorithms
            or "crit" in header
            or not is_access_token
            or not isinstance(kid, str)
        ):
            raise jwt.InvalidTokenError
        return kid

    def _verified(self, token: str, key: jwt.PyJWK) -> Verified:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=self._algorithms,
            audience=self._audience,
            issuer=self._issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["sub", "iss", "aud", "exp"]},
        )
        if claims.keys() & _OF_AN_ID_TOKEN or any(
            str(claims.get(name, said)).lower() != said for name, said in _SAID.items()
        ):
            raise jwt.InvalidTokenError
        expires_at = expiry(claims)
        return Verified(Principal(self._user_id_of(claims["sub"])), expires_at)


def oidc_tokens(keys: KeyCache, *, issuer: str, audience: str) -> IssuerTokens:
    return IssuerTokens(
        keys,
        issuer=issuer,
        audience=audience,
        algorithms=OIDC_ALGORITHMS,
        user_id_of=partial(mapped_user_id, issuer),
    )


def better_auth_tokens(keys: KeyCache, *, origin: str) -> IssuerTokens:
    return IssuerTokens(
        keys,
        issuer=origin,
        audience=origin,
        algorithms=BETTER_AUTH_ALGORITHMS,
        user_id_of=better_auth_user_id,
    )


def better_auth_keys_url(base_url: str) -> str:
    """Its routes are under /api/auth, unless its baseURL has a path of its own."""
    base_url = base_url.rstrip("/")
    return f"{base_url}/jwks" if urlsplit(base_url).path else f"{base_url}/api/auth/jwks"


def mapped_user_id(issuer: str, subject: str) -> str:
    """
    `j_` and the base64url of SHA-256 over issuer, NUL and subject: no two issuers meet in it.

    Raises:
        ValueError: no subject (OpenID Connect Core, 2: at most 255 characters).
    """
    if not 0 < len(subject) <= SUBJECT_CHARACTERS_MAX or "\0" in subject:
        raise ValueError
    digest = sha256(f"{issuer}\0{subject}".encode()).digest()
    return _MAPPED + urlsafe_b64encode(digest).rstrip(b"=").decode()


def better_auth_user_id(subject: str) -> str:
    """
    Better Auth's own id as it is, which its session table has too.

    Not one of the form that Parley gives its own accounts (UUIDv7): who may write Better Auth's
    tables, or sign for it, could be any of them.

    Raises:
        ValueError: no user of Parley may have it, or it could be another issuer's user.
    """
    if (
        not USER_ID.fullmatch(subject)
        or subject.startswith(_MAPPED)
        or is_of_local_account(subject)
    ):
        raise ValueError
    return subject
