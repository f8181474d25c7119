"""What a browser is told, and who it may tell: security.md, rows 72 and 81."""

import re

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from parley.core.settings import InvalidSettings, Settings, load_settings
from parley.crud.memory.store import MemoryStore
from parley.main import create_app
from tests.conftest import SECRET

ORIGIN = "https://chat.example.com"
ELSEWHERE = [
    "https://evil.test",
    "null",
    "https://chat.example.com.evil.test",
    "https://evil.test/https://chat.example.com",
    "https://evilchat.example.com",
    "https://chat.example.com:8443",
    "http://chat.example.com",
    "HTTPS://CHAT.EXAMPLE.COM",
    "https://chat.example.com/",
    "https://chat.example.com,https://evil.test",
    "*",
    "",
]
GUARDS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@pytest.fixture
def backend() -> str:
    return "memory"


@pytest.fixture
def settings() -> Settings:
    return Settings(auth_secret=SECRET, cors_origins=f"{ORIGIN},http://localhost:3000")


def client_of(app: FastAPI) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app), base_url="http://test")


async def answers_of_every_kind(app: FastAPI, headers: dict[str, str]) -> list[Response]:
    """A page, a user's data, and each way to be refused."""

    async def broken(*_: object) -> None:
        raise RuntimeError

    object.__setattr__(app.state.services.conversations, "newest", broken)
    async with client_of(app) as client:
        account = {"email": "ann@example.com", "password": "correct horse battery staple"}
        session = await client.post("/api/v1/auth/register", json=account, headers=headers)
        bearer = headers | {"Authorization": f"Bearer {session.json()['access_token']}"}
        chat, hello = "/api/v1/me/chat", {"message": "hi"}
        large = {**bearer, "Content-Length": "9999999"}
        return [
            session,
            await client.get("/health", headers=headers),
            await client.get("/docs", headers=headers),
            await client.post(chat, json=hello, headers=bearer),
            await client.post(chat, json=hello | {"stream": True}, headers=bearer),
            await client.post(chat, json=hello, headers=headers),
            await client.post(chat, json={}, headers=bearer),
            await client.post(chat, content=b"", headers=large),
            await client.post(chat, content=b"x", headers=bearer | {"Content-Encoding": "br"}),
            await client.get("/nowhere", headers=headers),
            await client.get("/nowhere%0A", headers=headers),
            await client.put("/health", headers=headers),
            await client.get("/health", headers=headers | {"Host": "a b"}),
            await client.get("/api/health", headers=headers | {"Host": "a b"}),
            await client.get("/api/v1/conversations", headers=bearer),
        ]


KINDS = [201, 200, 200, 200, 200, 401, 422, 413, 415, 404, 404, 405, 200, 400, 500]


class TestOrigins:
    """Row 72."""

    async def test_every_answer_may_be_read_by_an_origin_that_is_named(self, app: FastAPI):
        found = await answers_of_every_kind(app, {"Origin": ORIGIN})

        assert KINDS == [answer.status_code for answer in found]
        for answer in found:
            assert ORIGIN == answer.headers["Access-Control-Allow-Origin"]
            assert "Origin" == answer.headers["Vary"]
            exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
            assert {"X-Request-ID", "Retry-After", "WWW-Authenticate"} <= set(exposed)
            assert answer.headers["X-Request-ID"]
            assert "Access-Control-Allow-Credentials" not in answer.headers

    @pytest.mark.parametrize("origin", ELSEWHERE)
    async def test_no_answer_may_be_read_by_any_other(self, app: FastAPI, origin: str):
        for answer in await answers_of_every_kind(app, {"Origin": origin}):
            assert [] == [name for name in answer.headers if name.startswith("access-control")]
            assert "Origin" == answer.headers["Vary"]

    async def test_an_answer_to_nobody_in_particular_says_that_it_depends(
        self, client: AsyncClient
    ):
        """A cache would hand it on to an origin that may read it."""
        assert "Origin" == (await client.get("/health")).headers["Vary"]

    async def test_a_browser_is_told_what_it_may_send(self, client: AsyncClient):
        answer = await client.options(
            "/api/v1/me/chat",
            headers={
                "Origin": ORIGIN,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            },
        )

        assert 204 == answer.status_code
        assert ORIGIN == answer.headers["Access-Control-Allow-Origin"]
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
        for header in ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"):
            assert header in answer.headers["Access-Control-Allow-Headers"].split(", ")
        assert answer.headers["X-Request-ID"]
        assert "*" not in str(answer.headers.raw)

    @pytest.mark.parametrize("origin", ELSEWHERE)
    async def test_a_page_of_another_origin_is_told_nothing(
        self, client: AsyncClient, origin: str
    ):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answer = await client.options("/api/v1/me/chat", headers=headers)

        assert 405 == answer.status_code == answer.json()["status"]
        assert [] == [name for name in answer.headers if name.startswith("access-control")]

    async def test_only_options_asks_before_it_sends(self, client: AsyncClient):
        headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}

        assert 200 == (await client.get("/health", headers=headers)).status_code
        del headers["Access-Control-Request-Method"]
        assert 405 == (await client.options("/health", headers=headers)).status_code

    async def test_without_origins_there_is_no_word_of_them(self):
        app = create_app(Settings(auth_secret=SECRET), store=MemoryStore())
        async with client_of(app) as client:
            asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
            for answer in (
                await client.get("/health", headers=asked),
                await client.options("/health", headers=asked),
            ):
                assert "Vary" not in answer.headers
                assert "Access-Control-Allow-Origin" not in answer.headers

    async def test_a_cookie_may_come_along_only_where_one_speaks(self):
        better = Settings(
            auth_secret=SECRET,
            auth_mode="local,better-auth",
            better_auth_url="https://auth.example.com",
            better_auth_secret=SECRET,
            better_auth_database_url="postgresql://reader@host/name",
            cors_origins=ORIGIN,
        )
        async with client_of(create_app(better, store=MemoryStore())) as client:
            mine = (await client.get("/health", headers={"Origin": ORIGIN})).headers
            other = (await client.get("/health", headers={"Origin": ELSEWHERE[0]})).headers

        assert "true" == mine["Access-Control-Allow-Credentials"]
        assert "Access-Control-Allow-Credentials" not in other

    @pytest.mark.parametrize("origins", ["*", f"{ORIGIN},*", "https://*", "https://*.example.com"])
    def test_every_origin_at_once_refuses_the_start(
        self, monkeypatch: pytest.MonkeyPatch, origins: str
    ):
        monkeypatch.setenv("CORS_ORIGINS", origins)

        with pytest.raises(InvalidSettings, match="CORS_ORIGINS"):
            load_settings()


class TestGuards:
    async def test_every_answer_has_them(self, app: FastAPI):
        for answer in await answers_of_every_kind(app, {}):
            page = answer.headers["Content-Type"].startswith("text/html")
            for name, value in GUARDS.items():
                told = answer.headers.get_list(name)
                assert 1 == len(told), (answer.url, name)
                assert page or [value] == told, (answer.url, name)

    async def test_no_answer_names_what_runs_here(self, app: FastAPI):
        for answer in await answers_of_every_kind(app, {}):
            assert "Server" not in answer.headers
            assert "X-Powered-By" not in answer.headers


class TestPages:
    """Row 81; what they load is in tests/integration/test_pages.py."""

    @pytest.mark.parametrize("page", ["/docs", "/redoc"])
    async def test_one_allows_what_it_uses_from_here_and_nothing_else(
        self, client: AsyncClient, page: str
    ):
        answer = await client.get(page)
        policy = answer.headers["Content-Security-Policy"]
        directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))

        assert "'none'" == directives["default-src"]
        assert "'none'" == directives["frame-ancestors"]
        assert re.fullmatch(r"'self'( 'sha256-[\w+/=]+')*", directives["script-src"])
        assert "same-origin" == answer.headers["Cross-Origin-Opener-Policy"]

    async def test_its_scripts_are_asked_for_again_after_an_upgrade(self, client: AsyncClient):
        answer = await client.get("/docs/assets/swagger-ui-bundle.js")

        assert ("no-cache", "nosniff") == (
            answer.headers["Cache-Control"],
            answer.headers["X-Content-Type-Options"],
        )
        again = {"If-None-Match": answer.headers["ETag"]}
        kept = await client.get("/docs/assets/swagger-ui-bundle.js", headers=again)
        assert 304 == kept.status_code
