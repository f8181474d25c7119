"""Better Auth's session tokens, as its cookie and its bearer plugin carry them."""

import hmac
from base64 import b64encode
from urllib.parse import unquote

COOKIE = "better-auth.session_token"
SECURE_COOKIE = f"__Secure-{COOKIE}"
"""Under https; no page of another host, and none without TLS, can have set it."""


class SignedSessions:
    """
    `token.signature`: base64 of HMAC-SHA256 over the token, the whole percent-encoded or not.

    The bearer plugin takes a token without a signature too. That is what its table has in clear:
    who had read it once, or a backup of it, could be anybody in it. So only signed ones count here.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def open(self, signed: str) -> str | None:
        """The token in it; None if it was not signed with this secret."""
        # Not `unquote_plus`: a plus is one of base64's own.
        token, _, signature = unquote(signed).rpartition(".")
        if not (token.isascii() and signature.isascii()):
            return None
        made = b64encode(hmac.digest(self._secret, token.encode(), "sha256"))
        return token if token and hmac.compare_digest(made, signature.encode()) else None
