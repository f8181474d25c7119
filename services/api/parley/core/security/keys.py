"""The public keys that an issuer signs with: asked for seldom, kept through an outage."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from parley.core.errors import IssuerUnavailable

MAX_AGE_SECONDS = 300
COOL_DOWN_SECONDS = 10
RSA_BITS_MIN = 2048
# What a key may sign by (RFC 7518, 3.1; RFC 8037). The first, where the key itself does not say.
_ALGORITHMS = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}

Keys = Mapping[str, jwt.PyJWK]

log = structlog.get_logger(__name__)


class KeysUnreadable(Exception):
    """The issuer's keys could not be had; the message says why, in words of ours."""


def keys_of(document: object) -> Keys:
    """
    Those of a JSON Web Key Set (RFC 7517) that may verify a token, by `kid`.

    Each has the one algorithm that the set gives it, whatever a token says. All others are left
    out: a set may have keys of other uses, and of kinds that are not known yet.

    Raises:
        KeysUnreadable: it is no key set.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        msg = "no key set"
        raise KeysUnreadable(msg)
    keys = (_key(entry) for entry in listed if isinstance(entry, dict))
    return {str(key.key_id): key for key in keys if key is not None}


def _key(entry: dict[str, Any]) -> jwt.PyJWK | None:
    curve = entry.get("crv")
    algorithms = _ALGORITHMS.get((str(entry.get("kty")), None if curve is None else str(curve)))
    if algorithms is None or not isinstance(entry.get("kid"), str):
        return None
    algorithm = entry.get("alg", algorithms[0])
    if algorithm not in algorithms or not _is_for_verifying(entry):
        return None
    try:
        key = jwt.PyJWK(entry, algorithm)
    except (jwt.PyJWTError, ValueError):
        return None
    return key if _is_strong(key.key) else None


def _is_for_verifying(entry: dict[str, Any]) -> bool:
    operations = entry.get("key_ops", ["verify"])
    return (
        entry.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )


def _is_strong(key: object) -> bool:
    """A private key among them is anybody's by now."""
    if isinstance(key, RSAPublicKey):
        return key.key_size >= RSA_BITS_MIN
    return isinstance(key, EllipticCurvePublicKey | Ed25519PublicKey)


class KeyCache:
    """
    One issuer's keys. `fetch` gets them from it, or raises `KeysUnreadable`.

    - It is asked once at a time, however many wait.
    - It is asked again when the keys are older than `max_age_seconds`, and for a `kid` that they
      do not have; but never sooner than `cool_down_seconds` after it was last asked, whatever
      came of it: tokens with invented ids must not make us flood it.
    - While it cannot be asked, the keys of before count. Only the first to notice waits for it.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Keys]],
        *,
        max_age_seconds: float = MAX_AGE_SECONDS,
        cool_down_seconds: float = COOL_DOWN_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._fetch = fetch
        self._max_age_seconds = max_age_seconds
        self._cool_down_seconds = cool_down_seconds
        self._clock = clock
        self._keys: Keys | None = None
        self._fetched_at = self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def get(self, kid: str) -> jwt.PyJWK | None:
        """
        None: the issuer has no such key, as far as it can be asked.

        Raises:
            IssuerUnavailable: it never answered, and does not now.
        """
        known = self._keys is not None and kid in self._keys
        if not known or self._clock() - self._fetched_at > self._max_age_seconds:
            was_away = self._asked_at > self._fetched_at
            asking = self._ask()
            # With a key at hand nobody waits for an issuer that was away when last asked.
            if asking is not None and not (known and was_away):
                await asyncio.shield(asking)
        if self._keys is None:
            raise IssuerUnavailable
        return self._keys.get(kid)

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            with suppress(asyncio.CancelledError):
                await self._asking

    def _ask(self) -> asyncio.Task[None] | None:
        """None: it was asked a moment ago."""
        if self._asking is None and (self._clock() - self._asked_at >= self._cool_down_seconds):
            self._asked_at = self._clock()
            self._asking = asyncio.create_task(self._refresh())
        return self._asking

    async def _refresh(self) -> None:
        try:
            self._keys = await self._fetch()
            self._fetched_at = self._asked_at
        except KeysUnreadable as problem:
            log.warning(
                "issuer-keys-unavailable", reason=str(problem), has_keys=self._keys is not None
            )
        finally:
            self._asking = None
