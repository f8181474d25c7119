"""
Group A of the design's security.md over HTTP, for Parley's own tokens; test_other_issuers has the others'.

What is forged here is listed, row by row, in the unit tests of the tokens.
"""

import asyncio
import json
from collections.abc import Callable
from io import StringIO

import pytest
from httpx import AsyncClient

from parley.core.security.tokens import LocalTokens
from parley.core.settings import InvalidSettings, Settings
from parley.crud.ports import Store
from parley.main import create_app
from tests.conftest import SECRET
from tests.factories import session_of
from tests.integration.security.conftest import bearing
from tests.responders import Gated
from tests.unit.core.security.forge import forged, good_claims
from tests.unit.core.security.test_tokens import (
    CLAIMS,
    GARBAGE,
    HEADERS,
    KEYS,
    PEM,
    POINTERS,
)

PATH = "/api/v1/conversations"
# What fits into a head; longer ones do not get as far (test_http).
SENDABLE = {
    name: token for name, token in GARBAGE.items() if token.isascii() and len(token) < 10_000
}


@pytest.fixture
def forge(alice: str) -> Callable[..., str]:
    """Alice's token but for these."""

    def forge(header=None, **changes) -> str:
        claims = {"sub": alice, "sid": str(session_of(alice))} | changes
        return forged(header, **claims)

    return forge


async def refuses(client: AsyncClient, token: str) -> None:
    answer = await client.get(PATH, headers=bearing(token))
    assert (401, "unauthenticated") == (answer.status_code, answer.json()["code"]), token[:200]
    assert 'Bearer error="invalid_token"' == answer.headers["WWW-Authenticate"]


class TestForged:
    async def test_it_is_good_but_for_what_a_row_changes(self, client: AsyncClient, forge):
        assert 200 == (await client.get(PATH, headers=bearing(forge()))).status_code

    @pytest.mark.parametrize("row", sorted({row for row, _ in HEADERS}))
    async def test_by_its_header(self, client: AsyncClient, forge, row: int):
        for header in (header for number, header in HEADERS if number == row):
            await refuses(client, forge(header))

    @pytest.mark.parametrize("row", sorted({row for row, *_ in CLAIMS}))
    async def test_by_its_claims(self, client: AsyncClient, forge, row: int):
        for _, claim, value in (entry for entry in CLAIMS if entry[0] == row):
            await refuses(client, forge(**{claim: value}))

    async def test_row_3_by_another_key(self, client: AsyncClient, forge):
        for key in KEYS.values():
            await refuses(client, forge(key=key))

    async def test_row_5_by_a_pointer_to_another_key(self, client: AsyncClient, forge):
        for name, pointer in POINTERS.items():
            await refuses(client, forge({name: pointer}, key=PEM))

    async def test_row_7_by_what_is_missing(self, client: AsyncClient, forge):
        for claim in good_claims():
            await refuses(client, forge(leave_out=claim))

    async def test_row_1_no_token_at_all(self, client: AsyncClient):
        for token in SENDABLE.values():
            answer = await client.get(PATH, headers=bearing(token))
            assert 401 == answer.status_code

    async def test_of_another_session_of_nobody(self, client: AsyncClient, forge, bob: str):
        """Signed, in time, and of no session of this user."""
        for session_id in (session_of(bob), "0193497d-8a7d-7c0b-b4f6-d1f0a4a7ce55"):
            await refuses(client, forge(sid=str(session_id)))


class TestExpiry:
    @pytest.fixture
    def responder(self) -> Gated:
        return Gated("first ")

    async def test_row_14_a_stream_goes_on_and_the_next_call_is_refused(
        self, client: AsyncClient, responder: Gated, alice: str
    ):
        token = LocalTokens(SECRET, lifetime_seconds=8).issue(alice, session_of(alice))
        streaming = asyncio.create_task(
            client.post(
                "/api/v1/me/chat",
                json={"message": "hello", "stream": True},
                headers=bearing(token),
            )
        )
        await responder.asked.wait()
        while (await client.get(PATH, headers=bearing(token))).status_code != 401:
            await asyncio.sleep(0.05)
        responder.gate.set()
        stream = await streaming

        assert 200 == stream.status_code
        assert "event: done" in stream.text
        assert "re: hello" in stream.text
        await refuses(client, token)


class TestPlaces:
    @pytest.mark.parametrize("name", ["access_token", "token", "authorization", "key", "api_key"])
    async def test_row_15_the_query_is_no_place_for_one(
        self, client: AsyncClient, forge, name: str, logged: StringIO
    ):
        token = forge()
        answer = await client.get(f"{PATH}?{name}={token}")

        assert 401 == answer.status_code
        lines = [line for line in logged.getvalue().splitlines() if '"httpx"' not in line]
        assert lines
        assert [] == [line for line in lines if token in line or name in json.loads(line)]

    async def test_row_1_of_two_none_counts(self, client: AsyncClient, forge, bob: str, bearer):
        headers = [("Authorization", f"Bearer {forge()}"), *bearer(bob).items()]

        assert 401 == (await client.get(PATH, headers=headers)).status_code

    @pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
    async def test_the_schemes_case_says_nothing(self, client: AsyncClient, forge, scheme: str):
        """RFC 9110, 11.1."""
        answer = await client.get(PATH, headers={"Authorization": f"{scheme} {forge()}"})

        assert 200 == answer.status_code

    @pytest.mark.parametrize("scheme", ["Basic", "Token", "", "Bearer Bearer", "Digest"])
    async def test_row_1_no_other_scheme_carries_one(
        self, client: AsyncClient, forge, scheme: str
    ):
        answer = await client.get(PATH, headers={"Authorization": f"{scheme} {forge()}".strip()})

        assert 401 == answer.status_code


class TestOrder:
    """Who is asked first: a stranger does not make us read what they send."""

    @pytest.mark.parametrize("content", [b"{", b"\xff", b'{"message": ""}', b"x" * 2_000_000])
    async def test_a_body_of_nobody_known_is_not_looked_at(
        self, client: AsyncClient, forge, content: bytes
    ):
        headers = {"Content-Type": "application/json"}
        nobody = await client.post("/api/v1/me/chat", content=content, headers=headers)
        alice = await client.post(
            "/api/v1/me/chat", content=content, headers=headers | bearing(forge())
        )

        assert 401 == nobody.status_code
        assert alice.status_code in {413, 422}


class TestSecret:
    @pytest.mark.parametrize("name", ["auth_secret", "auth_secret_previous", "better_auth_secret"])
    def test_row_17_a_short_one_is_refused_at_the_start_in_production(
        self, store: Store, name: str
    ):
        good = {
            "environment": "production",
            "auth_secret": SECRET,
            "database_url": "postgresql://parley_api:x@127.0.0.1:1/x",
            "redis_url": "redis://127.0.0.1:1",
        }
        assert create_app(Settings(**good), store=store)
        with pytest.raises(InvalidSettings) as refusal:
            create_app(Settings(**good | {name: "x" * 31}), store=store)

        assert [name.upper()] == [fault.partition(":")[0] for fault in refusal.value.faults]
        assert "x" * 31 not in str(refusal.value)
