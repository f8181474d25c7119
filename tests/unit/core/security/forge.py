"""Tokens that nobody issued, made without a library that would refuse to."""

import hmac
import json
import time
from base64 import urlsafe_b64encode
from typing import Any

SECRET = "a secret of the tests, with more than 32 bytes"
DIGESTS = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


def segment(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class FromNow(float):
    """Seconds that are counted when a token is made, however long before that they are named."""


def good_claims() -> dict[str, Any]:
    return {
        "sub": "ann",
        "iss": "parley",
        "aud": "parley",
        "iat": FromNow(0),
        "exp": FromNow(300),
        "jti": "0193497d-8a7d-7c0b-b4f6-d1f0a4a7ce55",
        "sid": "0193497d-8a7d-7c0b-b4f6-d1f0a4a7ce56",
    }


def signed(
    claims: object, header: dict[str, Any] | None = None, key: bytes = SECRET.encode()
) -> str:
    """As the header's algorithm has it, or by HS256; claims that are bytes go as they are."""
    head = {"alg": "HS256", "typ": "at+jwt"} | (header or {})
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    covered = f"{segment(json.dumps(head).encode())}.{segment(body)}"
    digest = DIGESTS.get(str(head["alg"]), "sha256")
    return f"{covered}.{segment(hmac.digest(key, covered.encode(), digest))}"


def forged(
    header: dict[str, Any] | None = None,
    *,
    key: bytes = SECRET.encode(),
    leave_out: str | None = None,
    **claims: Any,
) -> str:
    """A good token but for these."""
    now = int(time.time())
    made = {
        name: now + value if isinstance(value, FromNow) else value
        for name, value in (good_claims() | claims).items()
        if name != leave_out
    }
    return signed(made, header, key)
