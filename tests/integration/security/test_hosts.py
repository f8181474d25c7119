"""By which names it may be called: security.md, row 78."""

from io import StringIO

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from starlette.datastructures import Headers

from parley.core.errors import UntrustedHost
from parley.core.settings import InvalidSettings, Settings, load_settings
from parley.crud.memory.store import MemoryStore
from parley.main import create_app
from parley.middleware.hosts import Hosts
from tests.conftest import SECRET


class TestHosts:
    @staticmethod
    async def status_of(settings: Settings, host: str, path: str = "/api/health") -> int:
        async with AsyncClient(
            transport=ASGITransport(create_app(settings, store=MemoryStore())),
            base_url="http://test",
        ) as client:
            answer = await client.get(path, headers={"Host": host})
        if answer.status_code == 400:
            assert "untrusted-host" == answer.json()["code"]
            assert "close" == answer.headers["Connection"]
        return answer.status_code

    @pytest.fixture
    def production(self) -> dict[str, str]:
        return {
            "environment": "production",
            "auth_secret": SECRET,
            "database_url": "postgresql://parley_api@host/parley",
            "redis_url": "redis://host",
        }

    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("localhost", 200),
            ("LOCALHOST:8000", 200),
            ("127.0.0.1:8000", 200),
            ("[::1]:8000", 200),
            ("localhost.", 200),
            ("chat.example.com", 400),
            ("localhost.evil.test", 400),
            ("evil.test:localhost", 400),
            ("localhost, evil.test", 400),
            ("localhost@evil.test", 400),
            ("evil.test/localhost", 400),
            ("127.0.0.2", 400),
            ("::1", 400),
            ("", 400),
        ],
    )
    async def test_in_production_it_answers_to_this_machines_names_alone(
        self, production: dict[str, str], host: str, status: int
    ):
        assert status == await self.status_of(Settings(**production), host)

    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("chat.example.com", 200),
            ("Chat.Example.com.:443", 200),
            ("a.internal", 200),
            ("a.b.internal:8000", 200),
            ("[2001:db8::1]", 200),
            ("internal", 400),
            ("ainternal", 400),
            ("example.com", 400),
            ("evilchat.example.com", 400),
            ("chat.example.com.evil.test", 400),
            ("localhost", 400),
        ],
    )
    async def test_once_there_are_names_it_answers_to_those(
        self, production: dict[str, str], host: str, status: int
    ):
        names = "chat.example.com, *.Internal, [2001:db8::1]"
        settings = Settings(**production, trusted_hosts=names)

        assert status == await self.status_of(settings, host)

    @pytest.mark.parametrize(
        "told", [{"environment": "development"}, {"trusted_hosts": "*"}], ids=str
    )
    async def test_any_name_will_do_where_that_is_said(
        self, production: dict[str, str], told: dict[str, str]
    ):
        settings = Settings(**production | told)

        assert 200 == await self.status_of(settings, "whatever.example.org")
        assert 400 == await self.status_of(settings, "what ever")

    @pytest.mark.parametrize("path", ["/health", "/health/ready", "/health/db", "/metrics"])
    async def test_whoever_watches_asks_by_address(self, production: dict[str, str], path: str):
        assert 400 != await self.status_of(Settings(**production), "10.1.2.3:8000", path)

    @pytest.mark.parametrize("path", ["/", "/docs", "/health/", "/healthy", "/api/v1/auth/me"])
    async def test_nothing_else_does(self, production: dict[str, str], path: str):
        assert 400 == await self.status_of(Settings(**production), "10.1.2.3:8000", path)

    @pytest.mark.parametrize(
        "names",
        ["https://chat.example.com", "chat.example.com:8000", "a b", "*.", "chat.*", "::1"],
    )
    def test_what_is_no_name_refuses_the_start(self, monkeypatch: pytest.MonkeyPatch, names: str):
        monkeypatch.setenv("TRUSTED_HOSTS", names)

        with pytest.raises(InvalidSettings, match="TRUSTED_HOSTS"):
            load_settings()

    @pytest.mark.parametrize(("names", "lines"), [("", 1), ("chat.example.com", 0)])
    def test_the_operator_is_told_what_to_set(
        self,
        production: dict[str, str],
        names: str,
        lines: int,
        capfd: pytest.CaptureFixture[str],
    ):
        create_app(Settings(**production, trusted_hosts=names), store=MemoryStore())

        assert lines == capfd.readouterr().err.count("TRUSTED_HOSTS")


def test_who_names_none_is_answered_where_any_will_do():
    """As HTTP/1.0 may."""
    scope = {"http_version": "1.0", "path": "/docs"}

    assert None is Hosts(["*"]).refusal(scope, Headers())
    assert UntrustedHost is type(Hosts(["chat.example.com"]).refusal(scope, Headers()))


class TestForwarded:
    @pytest.fixture
    def backend(self) -> str:
        return "memory"

    @pytest.fixture(params=[("", 1), ("10.0.0.0/8", 0)])
    def proxies_and_lines(self, request: pytest.FixtureRequest) -> tuple[str, int]:
        return request.param

    @pytest.fixture
    def settings(self, proxies_and_lines: tuple[str, int]) -> Settings:
        return Settings(auth_secret=SECRET, trusted_proxies=proxies_and_lines[0])

    async def test_a_proxy_that_nobody_named_is_wondered_about_once(
        self, app: FastAPI, proxies_and_lines: tuple[str, int], logged: StringIO
    ):
        """All its clients share one limit, and whoever runs it would not know why."""
        transport = ASGITransport(app, client=("10.0.0.1", 4711))
        async with AsyncClient(transport=transport, base_url="http://test") as client:
            for _ in range(3):
                await client.get("/health", headers={"X-Forwarded-For": "198.51.100.1"})

        assert proxies_and_lines[1] == logged.getvalue().count('"forwarded-for-ignored"')
