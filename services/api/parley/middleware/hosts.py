"""By which names the API may be called (RFC 9110, 7.2)."""

import re
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import Scope

from parley.core.errors import AppError, MalformedRequest, UntrustedHost

OWN_HOSTS = ("localhost", "127.0.0.1", "[::1]")

# Asked by address, by whoever watches; what they answer depends on no name.
_ANY_NAME = frozenset({"/health", "/health/ready", "/health/db", "/metrics"})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+?)\.?(:[0-9]*)?")


class Hosts:
    """
    `*` is any name, `*.example.com` each below that one. Ports do not count.

    A page of somebody's, whose name leads here for a moment (DNS rebinding), is of an origin of its
    own: its browser's requests have that name.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._suffixes = tuple(name[1:] for name in self._names if name.startswith("*."))

    def refusal(self, scope: Scope, headers: Headers) -> AppError | None:
        given = headers.getlist("Host")
        # A proxy before us may have believed another one than we would.
        if len(given) > 1 or (not given and scope["http_version"] == "1.1"):
            return MalformedRequest()
        if scope["path"] in _ANY_NAME or (not given and "*" in self._names):
            return None
        parts = _HOST.fullmatch(given[0].lower()) if given else None
        return None if parts and self._has(parts[1]) else UntrustedHost()

    def _has(self, name: str) -> bool:
        return "*" in self._names or name in self._names or name.endswith(self._suffixes)
