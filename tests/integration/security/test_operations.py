"""What the inside looks like from outside: security.md, rows 80 and 82."""

import re

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from parley.core.ids import new_id
from parley.core.settings import Settings
from tests.conftest import SECRET


@pytest.fixture
def backend() -> str:
    return "memory"


class TestBugs:
    @pytest.fixture(params=["development", "production"])
    def settings(self, request: pytest.FixtureRequest) -> Settings:
        return Settings(
            environment=request.param,
            log_level="DEBUG",
            auth_secret=SECRET,
            database_url="postgresql://parley_api@host/parley",
            redis_url="redis://host",
            trusted_hosts="test",
        )

    async def test_one_says_nothing_of_the_inside(
        self, app: FastAPI, client: AsyncClient, bearer, alice: str
    ):
        """Row 80."""

        async def broken(*_: object) -> None:
            raise KeyError("canary")

        object.__setattr__(app.state.services.conversations, "newest", broken)
        answer = await client.get("/api/v1/conversations", headers=bearer(alice))

        assert {
            "type": "/problems/internal-error",
            "title": "Internal error",
            "status": 500,
            "detail": "Something went wrong here. Quote the request id when you report it.",
            "instance": "/api/v1/conversations",
            "code": "internal-error",
            "request_id": answer.headers["X-Request-ID"],
        } == {name: value for name, value in answer.json().items() if value is not None}


class TestMetrics:
    async def test_a_thousand_paths_and_users_make_no_more_series_than_one(
        self, client: AsyncClient, bearer
    ):
        """Row 82; that no proxy passes them on is in tests/deploy and tests/containers."""

        async def ask() -> set[str]:
            user = str(new_id())
            for path in (f"/{user}", f"/api/v1/{user}/chat", f"/api/v1/turns/{user}"):
                for method in ("GET", "POST"):
                    await client.request(method, path, headers=bearer(user))
            text = (await client.get("/metrics")).text
            assert user not in text
            return set(re.findall(r"^http_requests_total\{.*?\}", text, re.MULTILINE))

        first = await ask()
        for _ in range(20):
            last = await ask()

        assert first == last
