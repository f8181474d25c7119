"""Health for probes, and the API's own pages."""

import re

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from parley import __version__
from parley.crud.ports import SCHEMA_REVISION


@pytest.fixture
def backend() -> str:
    return "sqlite"


class TestHealth:
    async def test_alive_says_since_when_and_which_version(self, client: AsyncClient):
        health = (await client.get("/health")).json()

        assert {"status", "version", "uptime_seconds", "timestamp"} == set(health)
        assert ("ok", __version__) == (health["status"], health["version"])

    async def test_ready_names_each_part(self, client: AsyncClient):
        assert {
            "status": "ready",
            "database": "connected",
            "schema_revision": SCHEMA_REVISION,
            "draining": False,
        } == (await client.get("/health/ready")).json()

    async def test_draining_is_not_ready(self, app: FastAPI, client: AsyncClient):
        await app.state.runner.stop(grace_seconds=0)
        response = await client.get("/health/ready")

        assert (503, "not-ready", True) == (
            response.status_code,
            response.json()["status"],
            response.json()["draining"],
        )
        assert response.headers["Retry-After"]
        assert 200 == (await client.get("/health")).status_code

    async def test_the_database_says_how_fast_and_how_busy(self, client: AsyncClient):
        health = (await client.get("/health/db")).json()

        assert ("ok", SCHEMA_REVISION) == (health["status"], health["revision"])
        assert (10, 0) == (health["pool"]["size"], health["pool"]["overflow"])
        assert health["pool"]["in_use"] <= 1  # the lease may be renewed just now
        assert 0 < health["latency_seconds"] < 60

    async def test_one_word_for_a_status_page(self, client: AsyncClient):
        health = (await client.get("/api/health")).json()

        assert {"status", "database", "timestamp"} == set(health)
        assert ("ok", "connected") == (health["status"], health["database"])


class TestDocs:
    @pytest.mark.parametrize("page", ["/docs", "/redoc"])
    async def test_a_page_loads_nothing_from_elsewhere(self, client: AsyncClient, page: str):
        response = await client.get(page)

        assert 200 == response.status_code
        assert [] == re.findall(r"(?:src|href)=\"(?:https?:)?//", response.text)
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; connect-src 'self'")
        assert "http" not in policy
        loaded = re.findall(r"(?:src|href)=\"(docs/assets/[^\"]+)", response.text)
        assert loaded
        for asset in loaded:
            assert 200 == (await client.get(f"/{asset}")).status_code

    async def test_the_api_describes_itself_in_openapi_3_1(self, client: AsyncClient):
        document = (await client.get("/openapi.json")).json()

        assert "3.1.0" == document["openapi"]
        tags = {tag["name"] for tag in document["tags"]}
        for path, item in document["paths"].items():
            for method, operation in item.items():
                assert set(operation["tags"]) <= tags, (method, path)
                assert operation["description"], (method, path)
                # What the server itself answers, before there is a route.
                assert {"400", "431", "500"} <= operation["responses"].keys(), (method, path)
                problems = [
                    response["content"]
                    for status, response in operation["responses"].items()
                    if status >= "400" and "health" not in path
                ]
                assert all([*content] == ["application/problem+json"] for content in problems)
        for field in document["components"]["schemas"]["ConversationPatch"]["properties"].values():
            assert (
                "default" not in field
            )  # a client would fill it in, and so take away what is there
        assert "HTTPValidationError" not in document["components"]["schemas"]
