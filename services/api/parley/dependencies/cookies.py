"""When Better Auth's cookie speaks for a user: only where no other page can have sent it along."""

from collections.abc import Iterable
from dataclasses import dataclass

from fastapi import Request

from parley.core.errors import OriginRefused
from parley.core.security.better_auth import COOKIE, SECURE_COOKIE

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
# The page is the API's own, or there is none: an address that somebody typed (Fetch Metadata, 2.3).
_OWN_SITES = {None, "same-origin", "none"}


@dataclass(frozen=True, kw_only=True)
class CookieRules:
    """
    `origins` are those of the pages that may send it, besides the API's own.

    Where Better Auth is under https, its cookie is `__Secure-…` and no other counts: one without
    could be set by whoever is in between, and put a user into the attacker's session.
    """

    origins: frozenset[str]
    is_secure: bool

    def session_of(self, request: Request) -> str | None:
        """
        The signed session that the cookie carries; None if it does not count here.

        Raises:
            OriginRefused: a page may have sent it that the user did not mean to.
        """
        if "Authorization" in request.headers:
            return None
        names = (SECURE_COOKIE,) if self.is_secure else (SECURE_COOKIE, COOKIE)
        cookies = list(_cookies(request.headers.getlist("Cookie")))
        values = [value for name in names for given, value in cookies if given == name]
        # With two of them it would be chance which one counts here and which one there.
        if len(values) != 1:
            return None
        if not self._is_meant(request):
            raise OriginRefused
        return values[0]

    def _is_meant(self, request: Request) -> bool:
        """
        By the Origin, which no page can choose. A browser leaves it out only of what changes
        nothing; then Sec-Fetch-Site says whether it is of another site, if the browser says it.
        """
        origins = request.headers.getlist("Origin")
        if not origins and request.method in _SAFE_METHODS:
            return request.headers.get("Sec-Fetch-Site") in _OWN_SITES
        host = request.headers.get("Host", "").lower()
        schemes = ("https",) if self.is_secure else ("https", "http")
        allowed = self.origins | {f"{scheme}://{host}" for scheme in schemes}
        return len(origins) == 1 and origins[0] in allowed


def _cookies(headers: Iterable[str]) -> Iterable[tuple[str, str]]:
    for header in headers:
        for cookie in header.split(";"):
            name, _, value = cookie.partition("=")
            yield name.strip(), value.strip()
