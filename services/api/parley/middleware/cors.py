"""
Which pages of other origins may read an answer (Fetch, 3.3, CORS protocol).

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Scope

# Browsers compare: a method or a header that is not among these is not sent.
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-Modified-Since, If-None-Match, If-Range,"
    " If-Unmodified-Since, Last-Event-ID, Range, X-Request-ID"
)
_EXPOSED = (
    "Accept-Ranges, Allow, Content-Disposition, Content-Range, Deprecation, ETag, Idempotency-Replayed,"
    " Link, RateLimit, RateLimit-Policy, Retry-After, Sunset, WWW-Authenticate, X-Request-ID"
)
_MAX_AGE_SECONDS = 600


class Cors:
    """
    Part of the one layer, so that each answer has its headers, also one that the layer gives itself.

    Starlette's would answer a refused preflight in plain text, which is no problem (RFC 9457). Here
    that of another origin is a request like any, and its answer allows nothing.
    """

    def __init__(self, origins: Iterable[str], *, with_credentials: bool) -> None:
        self._origins = frozenset(origins)
        self._with_credentials = with_credentials

    def preflight(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to what a browser asks before a request; None where it is none."""
        asks = scope["method"] == "OPTIONS" and "Access-Control-Request-Method" in headers
        if not asks or self._origin(headers) is None:
            return None
        allowed = {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": str(_MAX_AGE_SECONDS),
        }
        return Response(status_code=204, headers=allowed)

    def announce(self, headers: Headers, answered: MutableHeaders) -> None:
        if not self._origins:
            return
        # Whoever keeps an answer must not give it to another origin.
        answered.add_vary_header("Origin")
        if origin := self._origin(headers):
            answered["Access-Control-Allow-Origin"] = origin
            answered["Access-Control-Expose-Headers"] = _EXPOSED
            if self._with_credentials:
                answered["Access-Control-Allow-Credentials"] = "true"

    def _origin(self, headers: Headers) -> str | None:
        origin = headers.get("Origin")
        return origin if origin in self._origins else None
