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

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, owner: str, listing: str, place: list[Any]) -> str:
        body = json.dumps(place, separators=(",", ":")).encode()
        return urlsafe_b64encode(self._tag(owner, listing, body) + body).rstrip(b"=").decode()

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
        if not hmac.compare_digest(tag, self._tag(owner, listing, body)):
            raise InvalidCursor
        place: list[Any] = json.loads(body)
        return place

    def _tag(self, owner: str, listing: str, body: bytes) -> bytes:
        # Neither an id nor a listing's name has a line end.
        covered = f"{owner}\n{listing}\n".encode() + body
        return hmac.digest(self._key, covered, "sha256")[:_TAG_BYTES]
