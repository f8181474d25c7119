"""Which cookie speaks, and from where; rows 72 and 73 of the design's security.md."""

from typing import Any

import pytest
from fastapi import Request

from parley.core.errors import OriginRefused
from parley.dependencies.cookies import CookieRules

PLAIN, SECURE = "better-auth.session_token", "__Secure-better-auth.session_token"
PAGE, AUTH = "https://chat.test", "https://auth.test"
RULES = CookieRules(origins=frozenset({PAGE, AUTH}), is_secure=True)
HTTP_RULES = CookieRules(origins=frozenset({PAGE, AUTH}), is_secure=False)
SENT = {"cookie": f"{SECURE}=signed"}
UNSAFE, SAFE = ("POST", "PUT", "PATCH", "DELETE", "PROPFIND"), ("GET", "HEAD", "OPTIONS")
STRANGE_ORIGINS = [
    "https://evil.test",
    "null",
    "",
    "*",
    "https://chat.test.evil.test",
    "https://evilchat.test",
    "https://chat.test:444",
    "https://chat.test/",
    "http://chat.test",
    "https://CHAT.test",
    "https://api.test.evil.test",
    "https://api.test:8443",
    "http://api.test",
    "ftp://api.test",
    "api.test",
    "https://",
    "https://chat.test, https://chat.test",
]


def request(method: str = "GET", *headers: tuple[str, str], **named: str) -> Request:
    given = [("host", "api.test"), *headers, *((n.replace("_", "-"), v) for n, v in named.items())]
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in given]
    scope: dict[str, Any] = {"type": "http", "method": method, "path": "/", "headers": raw}
    return Request(scope)


class TestWhichCookie:
    @pytest.mark.parametrize(
        "header",
        [
            f"{SECURE}=a.b%3D",
            f"x=y; {SECURE}=a.b%3D; z=1",
            f"x=y;{SECURE}=a.b%3D",
            f"better-auth.session_data=e30; {SECURE}=a.b%3D",
        ],
    )
    def test_it_is_found_among_others_and_left_as_it_is(self, header: str):
        assert RULES.session_of(request(cookie=header)) == "a.b%3D"

    def test_its_value_begins_at_the_first_equals_sign(self):
        assert RULES.session_of(request(cookie=f"{SECURE}=a.b=")) == "a.b="

    def test_it_is_found_in_any_cookie_header(self):
        """HTTP/2 may bring one for each cookie."""
        given = request("GET", ("cookie", "x=y"), ("cookie", f"{SECURE}=signed"))

        assert "signed" == RULES.session_of(given)

    @pytest.mark.parametrize(
        "header",
        ["x=y", "", "better-auth.session_data=e30", f"{SECURE}", f"x{SECURE}=signed", ";;=;"],
    )
    def test_no_other_speaks(self, header: str):
        assert not RULES.session_of(request(cookie=header))

    def test_none_is_none(self):
        assert RULES.session_of(request()) is None

    def test_under_https_the_one_that_anybody_can_set_does_not_count(self):
        assert RULES.session_of(request(cookie=f"{PLAIN}=signed")) is None

    @pytest.mark.parametrize("name", [PLAIN, SECURE])
    def test_under_http_both_do(self, name: str):
        assert "signed" == HTTP_RULES.session_of(request(cookie=f"{name}=signed"))

    @pytest.mark.parametrize("second", [f"{SECURE}=other", f"{SECURE}=signed", f"{PLAIN}=other"])
    def test_of_two_none_does(self, second: str):
        in_one = request(cookie=f"{SECURE}=signed; {second}")
        in_two = request("GET", ("cookie", f"{SECURE}=signed"), ("cookie", second))

        assert [None] * 2 == [HTTP_RULES.session_of(given) for given in (in_one, in_two)]

    @pytest.mark.parametrize("authorization", ["Bearer x", "Basic x", ""])
    def test_beside_another_credential_it_does_not_count(self, authorization: str):
        given = request("POST", authorization=authorization, origin="https://evil.test", **SENT)

        assert RULES.session_of(given) is None


class TestOrigin:
    @pytest.mark.parametrize("method", [*SAFE, *UNSAFE])
    @pytest.mark.parametrize("origin", [PAGE, AUTH, "https://api.test"])
    @pytest.mark.parametrize("site", [{}, {"sec_fetch_site": "cross-site"}])
    def test_a_page_that_is_named_or_the_apis_own_may_send_it(
        self, method: str, origin: str, site: dict[str, str]
    ):
        assert "signed" == RULES.session_of(request(method, origin=origin, **SENT, **site))

    @pytest.mark.parametrize("method", [*SAFE, *UNSAFE])
    @pytest.mark.parametrize("origin", STRANGE_ORIGINS)
    def test_row_73_no_other_page_may(self, method: str, origin: str):
        with pytest.raises(OriginRefused):
            RULES.session_of(request(method, origin=origin, **SENT))

    @pytest.mark.parametrize("method", [*SAFE, *UNSAFE])
    def test_row_73_nor_two_at_once(self, method: str):
        with pytest.raises(OriginRefused):
            RULES.session_of(request(method, ("origin", PAGE), ("origin", PAGE), **SENT))

    @pytest.mark.parametrize("method", UNSAFE)
    @pytest.mark.parametrize("site", [{}, {"sec_fetch_site": "same-origin"}])
    def test_row_73_what_changes_something_needs_one(self, method: str, site: dict[str, str]):
        with pytest.raises(OriginRefused):
            RULES.session_of(request(method, **SENT, **site))

    @pytest.mark.parametrize("method", SAFE)
    @pytest.mark.parametrize("site", ["same-origin", "none", None])
    def test_what_only_reads_needs_none(self, method: str, site: str | None):
        named = {} if site is None else {"sec_fetch_site": site}

        assert "signed" == RULES.session_of(request(method, **SENT, **named))

    @pytest.mark.parametrize("method", SAFE)
    @pytest.mark.parametrize("site", ["cross-site", "same-site", "", "x"])
    def test_unless_the_browser_says_that_another_page_asks(self, method: str, site: str):
        with pytest.raises(OriginRefused):
            RULES.session_of(request(method, sec_fetch_site=site, **SENT))

    def test_the_apis_own_is_what_it_was_called_by(self):
        given = request("POST", origin="https://api.test:8443", **SENT)
        given.scope["headers"] = [
            (n, b"API.test:8443" if n == b"host" else v) for n, v in given.scope["headers"]
        ]

        assert "signed" == RULES.session_of(Request(given.scope))

    @pytest.mark.parametrize("origin", ["http://api.test", "https://api.test"])
    def test_under_http_its_own_may_be_either(self, origin: str):
        """Whoever ends TLS in front of it does not say so."""
        assert "signed" == HTTP_RULES.session_of(request("POST", origin=origin, **SENT))

    def test_without_a_cookie_any_page_may_ask(self):
        assert RULES.session_of(request("POST", origin="https://evil.test")) is None
