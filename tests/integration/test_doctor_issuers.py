"""What `parley doctor` says of the database's pooler, and of those who vouch for users beside Parley."""

from collections.abc import AsyncGenerator

import pytest

from parley.cli.doctor import Finding, examine
from tests.conftest import SECRET
from tests.databases import DatabaseUrls
from tests.issuers import KeyServer, SigningKey, key_server
from tests.session_table import SECRET as BETTER_AUTH_SECRET
from tests.session_table import SessionTable

KEYS, SESSIONS = "better-auth keys", "better-auth sessions"


@pytest.fixture
async def server() -> AsyncGenerator[KeyServer]:
    async with key_server(SigningKey("okp", "EdDSA")) as server:
        yield server


@pytest.fixture
def told(postgres: DatabaseUrls, server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> KeyServer:
    settings = {
        "AUTH_MODE": "local,jwks,better-auth",
        "AUTH_SECRET": SECRET,
        "DATABASE_URL": postgres.api,
        "DATABASE_TIMEOUT_SECONDS": "30",
        "AUTH_JWKS_URL": f"{server.url}/keys",
        "AUTH_ISSUER": "https://tenant.auth.test/",
        "AUTH_AUDIENCE": "https://api.chat.test",
        "BETTER_AUTH_URL": server.url,
        "BETTER_AUTH_SECRET": BETTER_AUTH_SECRET,
        "BETTER_AUTH_DATABASE_URL": postgres.api,
        "BETTER_AUTH_SESSION_TABLE": "better_auth.session",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return server


async def findings() -> dict[str, Finding]:
    return {finding.name: finding for finding in await examine()}


async def test_all_is_well(told: KeyServer, postgres: DatabaseUrls):
    await SessionTable(postgres).create()

    found = await findings()

    assert {True} == {finding.ok for finding in found.values()}
    assert f"{told.url}/keys has 1" == found["jwks keys"].detail
    assert f"{told.url}/api/auth/jwks has 1" == found[KEYS].detail
    assert "better_auth.session" in found[SESSIONS].detail


async def test_a_better_auth_that_has_signed_nothing_yet_has_no_keys(told: KeyServer):
    told.has()

    keys = (await findings())[KEYS]

    assert keys.ok
    assert f"{told.url}/api/auth/jwks has none yet that can be used" == keys.detail


async def test_what_is_wrong_is_named(told: KeyServer):
    told.status = "404 Not Found"

    found = await findings()

    assert [False] * 3 == [found[name].ok for name in ("jwks keys", KEYS, SESSIONS)]
    assert "status 404" in found[KEYS].detail
    assert BETTER_AUTH_SECRET not in str(found)


async def test_nobody_is_asked_whose_mode_is_off(told: KeyServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AUTH_MODE", "local")

    assert not {"jwks keys", KEYS, SESSIONS} & (await findings()).keys()
    assert [] == told.asked


async def test_a_pooler_of_neons_that_nobody_said_is_one_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
):
    """It would refuse the time limits, and say no more than that."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://api:canary-4711@ep-x-1-pooler.test/neondb")

    database = (await findings())["database"]

    assert not database.ok
    assert "set DATABASE_POOLER=transaction" in database.detail
    assert "canary" not in database.detail
