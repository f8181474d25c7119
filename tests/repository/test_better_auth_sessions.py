"""Better Auth's table of sessions on a real PostgreSQL, as the API's role."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from io import StringIO
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from parley.core.database import Pooler, create_engine
from parley.core.errors import DatabaseUnavailable
from parley.crud.sql.better_auth import SqlBetterAuthSessions
from parley.crud.sql.database import SqlDatabase
from tests.databases import DatabaseUrls, connected
from tests.session_table import SessionTable
from tests.stores import TIMEOUT_SECONDS

TOKEN, OTHER = "a" * 32, "b" * 32
ANN, BOB = "AnnAnnAnnAnnAnnAnnAnnAnnAnnAnnAn", "BobBobBobBobBobBobBobBobBobBobBo"


@pytest.fixture
async def table(postgres: DatabaseUrls) -> SessionTable:
    table = SessionTable(postgres)
    await table.create()
    await table.sign_in(TOKEN, ANN)
    await table.sign_in(OTHER, BOB)
    return table


def engine_of_one(url: str, pooler: Pooler) -> AsyncEngine:
    return create_engine(url, pool_size=1, pooler=pooler, timeout_seconds=TIMEOUT_SECONDS)


def patient(engine: AsyncEngine) -> SqlDatabase:
    return SqlDatabase(engine, timeout_seconds=TIMEOUT_SECONDS)


@asynccontextmanager
async def reading(
    url: str, table_name: str, pooler: Pooler = "none"
) -> AsyncGenerator[SqlBetterAuthSessions]:
    sessions = SqlBetterAuthSessions(patient(engine_of_one(url, pooler)), table_name)
    try:
        yield sessions
    finally:
        await sessions.close()


@pytest.fixture(params=["none", "transaction"])
async def sessions(
    table: SessionTable, request: pytest.FixtureRequest
) -> AsyncGenerator[SqlBetterAuthSessions]:
    async with reading(table.urls.api, table.name, request.param) as sessions:
        yield sessions


class TestUserOf:
    async def test_each_token_leads_to_its_own_user(self, sessions: SqlBetterAuthSessions):
        assert [ANN, BOB, ANN] == [await sessions.user_of(t) for t in (TOKEN, OTHER, TOKEN)]

    @pytest.mark.parametrize("token", ["c" * 32, "", "%", "' OR true --", TOKEN.upper()])
    async def test_any_other_leads_nowhere(self, sessions: SqlBetterAuthSessions, token: str):
        assert await sessions.user_of(token) is None

    async def test_signing_out_counts_at_once(
        self, sessions: SqlBetterAuthSessions, table: SessionTable
    ):
        assert ANN == await sessions.user_of(TOKEN)
        await table.sign_out(TOKEN)

        assert await sessions.user_of(TOKEN) is None

    async def test_one_that_has_ended_is_none(
        self, sessions: SqlBetterAuthSessions, table: SessionTable
    ):
        await table.sign_in("c" * 32, ANN, lasts=timedelta(seconds=-1))

        assert await sessions.user_of("c" * 32) is None

    @pytest.mark.parametrize("pooler", ["none", "transaction"])
    async def test_nothing_is_left_in_the_connection(self, table: SessionTable, pooler: Pooler):
        engine = engine_of_one(table.urls.api, pooler)
        sessions = SqlBetterAuthSessions(patient(engine), table.name)
        assert ANN == await sessions.user_of(TOKEN)

        async with engine.connect() as connection:
            result = await connection.exec_driver_sql(
                "SELECT current_setting('app.lookup', true), count(token) FROM better_auth.session"
            )
            assert ("", 0) == tuple(result.one())
        await sessions.close()


class TestPolicy:
    async def test_the_role_sees_no_session_that_it_cannot_name(self, table: SessionTable):
        async with connected(table.urls.api) as connection:
            seen = await connection.fetchval("SELECT count(token) FROM better_auth.session")

        assert 0 == seen


class TestForms:
    """Tables as others make them."""

    @pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Niue"])
    async def test_a_moment_without_a_zone_is_in_utc_whatever_the_servers_is(
        self, postgres: DatabaseUrls, zone: str
    ):
        table = SessionTable(postgres)
        await table.create(moment="timestamp(3)")
        await table.sign_in(TOKEN, ANN, lasts=timedelta(minutes=1))
        await table.sign_in(OTHER, BOB, lasts=timedelta(minutes=-1))
        async with connected(postgres.admin) as admin:
            await admin.execute(f"ALTER DATABASE {postgres.name} SET timezone = '{zone}'")

        async with reading(postgres.api, table.name) as sessions:
            assert [ANN, None] == [await sessions.user_of(token) for token in (TOKEN, OTHER)]

    @pytest.mark.parametrize(("kind", "user_id"), [("integer", 7), ("uuid", uuid4())])
    async def test_a_users_id_is_text_whatever_the_column_is(
        self, postgres: DatabaseUrls, kind: str, user_id: Any
    ):
        table = SessionTable(postgres)
        await table.create(user_id=kind)
        await table.sign_in(TOKEN, user_id)

        async with reading(postgres.api, table.name) as sessions:
            assert str(user_id) == await sessions.user_of(TOKEN)

    @pytest.mark.parametrize("name", ["Session", "user", "Auth.select"])
    async def test_a_name_is_taken_to_the_letter(self, table: SessionTable, name: str):
        schema, _, last = name.rpartition(".")
        async with connected(table.urls.admin) as admin:
            await admin.execute(f'ALTER TABLE better_auth.session RENAME TO "{last}"')
            await admin.execute(f'ALTER SCHEMA better_auth RENAME TO "{schema or "other"}"')
            if not schema:
                await admin.execute(f'ALTER TABLE other."{last}" SET SCHEMA public')

        async with reading(table.urls.api, name) as sessions:
            assert ANN == await sessions.user_of(TOKEN)


class TestUnreadable:
    @pytest.mark.parametrize("name", ["session", "better_auth.sessions", "nowhere.session"])
    async def test_no_such_table_is_a_503_and_says_so_in_the_log(
        self, table: SessionTable, name: str, logged: StringIO
    ):
        async with reading(table.urls.api, name) as sessions:
            with pytest.raises(DatabaseUnavailable):
                await sessions.user_of(TOKEN)

        assert '"sqlstate": "42P01"' in logged.getvalue()
        assert TOKEN not in logged.getvalue()

    async def test_nor_one_that_may_not_be_read(self, table: SessionTable, logged: StringIO):
        role = urlsplit(table.urls.api).username
        async with connected(table.urls.admin) as admin:
            await admin.execute(f"REVOKE USAGE ON SCHEMA better_auth FROM {role}")

        async with reading(table.urls.api, table.name) as sessions:
            with pytest.raises(DatabaseUnavailable):
                await sessions.user_of(TOKEN)

        assert '"sqlstate": "42501"' in logged.getvalue()

    async def test_a_server_that_is_away_is_unavailable(self):
        async with reading("postgresql://parley:x@127.0.0.1:1/parley", "session") as sessions:
            with pytest.raises(DatabaseUnavailable):
                await sessions.user_of(TOKEN)
