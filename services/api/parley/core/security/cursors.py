"""Places in a list, which a client keeps and only Parley can read or make."""

import hmac
import json
from base64 import b64decode, urlsafe_b64encode
from typing import Any

from parley.core.errors import InvalidCursor

_TAG_BYTES = 16


class Cursors:
    """
    A cursor is a JSON list behind an HMAC-SHA256 tag of 16 bytes, in base64url.

    The tag covers whose list it is too: a cursor is worth nothing to another user, nor elsewhere.
    """

    def __init__(self, *keys: bytes) -> None:
        """The first key seals; those behind it, of before, still open."""
        self._keys = keys

    def seal(self, owner: str, listing: str, place: list[Any]) -> str:
        body = json.dumps(place, separators=(",", ":")).encode()
        tag = _tag(self._keys[0], owner, listing, body)
        return urlsafe_b64encode(tag + body).rstrip(b"=").decode()

    def open(self, owner: str, listing: str, cursor: str) -> list[Any]:
        """
        Raises:
            InvalidCursor: it was not sealed here for this owner and this listing.
        """
        try:
            sealed = b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except ValueError as error:
            raise InvalidCursor from error
        tag, body = sealed[:_TAG_BYTES], sealed[_TAG_BYTES:]
        if not any(hmac.compare_digest(tag, _tag(k, owner, listing, body)) for k in self._keys):
            raise InvalidCursor
        place: list[Any] = json.loads(body)
        return place


def _tag(key: bytes, owner: str, listing: str, body: bytes) -> bytes:
    # Neither an id nor a listing's name has a line end.
    covered = f"{owner}\n{listing}\n".encode() + body
    return hmac.digest(key, covered, "sha256")[:_TAG_BYTES]
