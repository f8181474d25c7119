"""What one process tells Prometheus; what several tell together is in e2e/test_serving.py."""

import re
from collections.abc import Callable

import pytest
from httpx import AsyncClient

from parley.core.ids import new_id

Bearer = Callable[[str], dict[str, str]]


@pytest.fixture
def backend() -> str:
    return "memory"


class TestMetrics:
    async def test_a_label_is_a_template_and_never_what_somebody_sent(
        self, client: AsyncClient, bearer: Bearer, alice: str
    ):
        secret, missing = "a-path-of-somebodys-own", new_id()
        await client.post(f"/api/v1/{alice}/chat", json={"message": "hi"}, headers=bearer(alice))
        await client.get(f"/api/v1/conversations/{missing}", headers=bearer(alice))
        await client.get(f"/{secret}")
        await client.get(f"/api/v1/{secret}/chat")

        text = (await client.get("/metrics")).text

        assert (
            'http_requests_total{handler="/api/v1/{user_id}/chat",method="POST",status="200"} 1.0'
        ) in text
        assert (
            'http_requests_total{handler="/api/v1/conversations/{conversation_id}",'
            'method="GET",status="404"} 1.0'
        ) in text
        assert 'http_requests_total{handler="none",method="GET",status="404"} 1.0' in text
        assert 'handler="/api/v1/{user_id}/chat",method="other",status="405"' in text
        for word in (alice, str(missing), secret):
            assert word not in text

    async def test_a_method_that_a_route_does_not_take_makes_no_series(self, client: AsyncClient):
        """Whoever sends all there are at all routes would make a thousand histograms."""
        for method in ("PROPFIND", "M-SEARCH", "PUT", "POST"):
            await client.request(method, "/api/v1/conversations")
            await client.request(method, "/nowhere")

        text = (await client.get("/metrics")).text

        methods = set(re.findall(r'^http_requests_total\{.*method="([^"]*)"', text, re.MULTILINE))
        assert {"POST", "PUT", "other"} == methods
        assert (
            'http_requests_total{handler="/api/v1/conversations",method="other",status="405"} 3.0'
        ) in text
        assert 'http_requests_total{handler="none",method="other",status="404"} 2.0' in text

    async def test_a_turn_tells_how_long_its_history_and_its_model_took(
        self, client: AsyncClient, bearer: Bearer, alice: str
    ):
        names = (
            "parley_history_seconds_count",
            'parley_model_first_piece_seconds_count{model="echo"}',
        )

        async def counts() -> list[float]:
            lines = (await client.get("/metrics")).text.splitlines()
            found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
            return [float(found.get(name, 0)) for name in names]

        before = await counts()
        await client.post("/api/v1/me/chat", json={"message": "hi"}, headers=bearer(alice))
        await client.post(
            "/api/v1/me/chat", json={"message": "hi", "model": "none"}, headers=bearer(alice)
        )

        assert [count + 1 for count in before] == await counts()

    async def test_probes_and_scrapes_do_not_count(self, client: AsyncClient):
        for path in ("/health", "/health/ready", "/health/db", "/metrics"):
            await client.get(path)

        answer = await client.get("/metrics")

        assert not re.search(r"^http_requests_total", answer.text, re.MULTILINE)
        assert "text/plain" in answer.headers["Content-Type"]

    async def test_it_has_one_name(self, client: AsyncClient):
        """A proxy that keeps it from the internet knows no other."""
        for path in ("/metrics%0A", "/metrics%0D", "/metrics%00", "/metrics/", "//metrics"):
            assert 404 == (await client.get(path)).status_code, path

    async def test_it_is_for_operators_and_no_part_of_the_api(self, client: AsyncClient):
        assert "/metrics" not in (await client.get("/openapi.json")).json()["paths"]
