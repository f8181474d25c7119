"""Rows 38 and 39 of the list of attacks: with which powers the API serves nobody in production."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from parley.core.database import Pooler
from parley.core.errors import DatabaseUnavailable
from parley.core.settings import Settings
from parley.crud.sql.store import SqlStore
from parley.main import DatabaseRefused, create_app
from tests.conftest import SECRET
from tests.databases import DatabaseUrls
from tests.factories import make_account
from tests.logins import Login, login_beside
from tests.proxy import proxied
from tests.stores import TIMEOUT_SECONDS, patient_store

MANY = ["has BYPASSRLS", "owns the database", "owns the schema", "owns tables"]
GIVEN = {
    "ALTER ROLE {role} SUPERUSER": ["{role} is a superuser"],
    "ALTER ROLE {role} BYPASSRLS": ["{role} has BYPASSRLS"],
    "ALTER ROLE {role} CREATEROLE": ["{role} has CREATEROLE"],
    "ALTER ROLE {role} CREATEDB": ["{role} has CREATEDB"],
    "ALTER ROLE {role} REPLICATION": ["{role} has REPLICATION"],
    "GRANT pg_read_server_files TO {role}": ["may become pg_read_server_files"],
    "GRANT pg_write_server_files TO {role}": ["may become pg_write_server_files"],
    "GRANT pg_execute_server_program TO {role}": ["may become pg_execute_server_program"],
    "GRANT {owner} TO {role}": ["{role} may become {owner}, which", *MANY],
    # Not its powers and not SET ROLE, but a member, who may be given the rest in one word.
    "GRANT {owner} TO {role} WITH INHERIT FALSE, SET FALSE": ["may become {owner}, which", *MANY],
    "ALTER TABLE messages OWNER TO {role}": ["{role} owns tables"],
    "ALTER SCHEMA public OWNER TO {role}": ["{role} owns the schema, may create tables"],
    "ALTER DATABASE {database} OWNER TO {role}": ["{role} owns the database"],
    "GRANT CREATE ON SCHEMA public TO {role}": ["{role} may create tables"],
    "GRANT CREATE ON SCHEMA public TO PUBLIC": ["{role} may create tables"],
    "GRANT CREATE ON DATABASE {database} TO {role}": ["{role} may create schemas"],
    "GRANT TEMPORARY ON DATABASE {database} TO PUBLIC": ["{role} may create temporary tables"],
    "GRANT INSERT ON alembic_version TO {role}": ["{role} may change alembic_version"],
    "GRANT DELETE ON alembic_version TO PUBLIC": ["{role} may change alembic_version"],
    "GRANT UPDATE (version_num) ON alembic_version TO {role}": ["may change alembic_version"],
    # What it logs in as counts too: RESET ROLE leads back to it.
    "ALTER ROLE {role} SUPERUSER; ALTER ROLE {role} SET role = {api}": ["{role} is a superuser"],
    "ALTER TABLE turns DISABLE ROW LEVEL SECURITY": ["table turns lets every role past"],
    "ALTER TABLE users NO FORCE ROW LEVEL SECURITY": ["table users lets every role past"],
    "CREATE TABLE later (user_id text)": ["table later lets every role past"],
    "ALTER ROLE {role} SET synchronous_commit = off": ["synchronous_commit is off"],
    "ALTER DATABASE {database} SET synchronous_commit = off": ["synchronous_commit is off"],
}
HARMLESS = [
    "ALTER ROLE {role} SET synchronous_commit = local",
    "ALTER ROLE {role} SET synchronous_commit = remote_write",
    "GRANT pg_read_all_data TO {role}",  # which the policies bind
    "CREATE SCHEMA other; CREATE TABLE other.theirs (user_id text)",
]


@pytest.fixture
async def login(postgres: DatabaseUrls) -> AsyncGenerator[Login]:
    async with login_beside(postgres) as login:
        yield login


async def faults_of(url: str, pooler: Pooler = "none") -> list[str]:
    store = patient_store(url, pooler=pooler)
    try:
        return [*await store.faults()]
    finally:
        await store.close()


class TestFaults:
    @pytest.mark.parametrize("pooler", ["none", "transaction"])
    async def test_the_api_role_of_roles_sql_has_none(self, postgres: DatabaseUrls, pooler):
        assert [] == await faults_of(postgres.api, pooler)

    @pytest.mark.parametrize(("given", "told"), GIVEN.items(), ids=GIVEN)
    async def test_each_power_too_many_is_named_with_what_to_do(
        self, login: Login, given: str, told: list[str]
    ):
        assert [] == await faults_of(login.url)
        await login.do(given)

        faults = await faults_of(login.url)
        assert [] == [words for words in told if login.said(words) not in "".join(faults)]
        assert [] == [line for line in faults if not line.startswith("DATABASE_URL: its")]

    @pytest.mark.parametrize("given", HARMLESS)
    async def test_what_lets_nobody_past_the_policies_is_no_fault(self, login: Login, given: str):
        await login.do(given)

        assert [] == await faults_of(login.url)

    async def test_a_database_on_its_way_to_its_first_revision_is_no_fault(self, login: Login):
        """Its version table is there before it has a row, with the rights of any other."""
        await login.do("DELETE FROM alembic_version; GRANT ALL ON alembic_version TO {role}")

        assert [] == await faults_of(login.url)


@pytest.fixture
def settings(login: Login) -> Settings:
    return production(login.url)


def production(url: str) -> Settings:
    return Settings(
        environment="production",
        auth_secret=SECRET,
        database_url=url,
        database_timeout_seconds=30,
        redis_url="redis://127.0.0.1:1/0",
    )


async def ask(app: FastAPI, path: str, headers: dict[str, str] | None = None):
    transport = ASGITransport(app)
    async with AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(path, headers=headers)


class TestStart:
    async def test_without_faults_it_starts_and_is_ready(self, settings: Settings):
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            assert 200 == (await ask(app, "/health/ready")).status_code

    @pytest.mark.parametrize("probe_seconds", [TIMEOUT_SECONDS, 0])
    async def test_with_one_it_does_not_start_and_says_why(
        self,
        settings: Settings,
        login: Login,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        probe_seconds: float,
    ):
        """Nor where the answer takes longer than a probe has."""
        monkeypatch.setattr("parley.services.health.PROBE_SECONDS", probe_seconds)
        await login.do("ALTER ROLE {role} BYPASSRLS CREATEDB; ALTER TABLE turns OWNER TO {role}")
        app = create_app(settings)

        with pytest.raises(DatabaseRefused):
            async with app.router.lifespan_context(app):
                pass

        assert 1 == capsys.readouterr().err.count("database-refused")

    async def test_nor_where_only_the_probe_behind_it_gets_through(
        self, settings: Settings, login: Login, monkeypatch: pytest.MonkeyPatch
    ):
        await login.do("ALTER ROLE {role} BYPASSRLS")
        app = create_app(settings)
        revision = SqlStore.revision

        async def away_at_first(_: SqlStore) -> str:
            monkeypatch.setattr(SqlStore, "revision", revision)
            raise DatabaseUnavailable

        monkeypatch.setattr(SqlStore, "revision", away_at_first)
        with pytest.raises(DatabaseRefused):
            async with app.router.lifespan_context(app):
                pass

    async def test_one_that_says_nothing_does_not_keep_it_from_starting(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        """However long the database may take by the settings: others probe whether it has started."""
        app = create_app(settings)

        async def for_ever(_: SqlStore) -> str:
            await asyncio.Event().wait()
            raise AssertionError

        monkeypatch.setattr(SqlStore, "revision", for_ever)
        monkeypatch.setattr("parley.main.START_SECONDS", 0.1)
        monkeypatch.setattr("parley.services.health.PROBE_SECONDS", 0)
        async with app.router.lifespan_context(app):
            assert 200 == (await ask(app, "/health")).status_code

    async def test_elsewhere_than_in_production_it_starts(self, login: Login):
        await login.do("ALTER ROLE {role} SUPERUSER")
        settings = Settings(
            auth_secret=SECRET, database_url=login.url, database_timeout_seconds=30
        )
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            assert 200 == (await ask(app, "/health/ready")).status_code


class TestADatabaseThatIsAwayAtTheStart:
    @pytest.fixture
    async def late(self, login: Login) -> AsyncGenerator[FastAPI]:
        """Started without a database, which is there now."""
        async with proxied(login.url) as (proxy, url):
            await proxy.refuse()
            app = create_app(production(url))
            async with app.router.lifespan_context(app):
                assert "disconnected" == (await ask(app, "/health/ready")).json()["database"]
                await proxy.serve()
                # Which only asks whether it answers: whether it may be used is still to be seen.
                while (await ask(app, "/api/health")).json()["database"] != "connected":
                    await asyncio.sleep(0.05)
                yield app

    async def test_is_looked_at_before_the_first_transaction_of_a_user(
        self, login: Login, late: FastAPI, alice: str, bearer
    ):
        """Whoever asks first: here nobody has asked whether it is ready."""
        store = patient_store(login.url)
        await make_account(store, alice)
        await store.close()
        await login.do("ALTER ROLE {role} BYPASSRLS")
        answer = await ask(late, "/api/v1/conversations", bearer(alice))
        assert (503, "database-unavailable") == (answer.status_code, answer.json()["code"])
        assert "BYPASSRLS" not in answer.text

        await login.do("ALTER ROLE {role} NOBYPASSRLS")
        assert 200 == (await ask(late, "/api/v1/conversations", bearer(alice))).status_code

    async def test_nor_is_anybody_looked_up_in_it(self, login: Login, late: FastAPI):
        await login.do("ALTER ROLE {role} BYPASSRLS")
        transport = ASGITransport(late)
        async with AsyncClient(transport=transport, base_url="http://localhost") as client:
            credentials = {"email": "ann@example.com", "password": "correct horse battery"}
            answer = await client.post("/api/v1/auth/login", json=credentials)

        assert (503, "database-unavailable") == (answer.status_code, answer.json()["code"])

    async def test_is_not_ready_with_a_fault_and_ready_when_it_is_mended(
        self, login: Login, late: FastAPI
    ):
        await login.do("ALTER ROLE {role} BYPASSRLS")
        for _ in range(2):
            refused = await ask(late, "/health/ready")
            assert 503 == refused.status_code
            assert ("not-ready", "refused") == (
                refused.json()["status"],
                refused.json()["database"],
            )

        await login.do("ALTER ROLE {role} NOBYPASSRLS")
        assert 200 == (await ask(late, "/health/ready")).status_code

    async def test_is_told_of_once_and_not_with_each_request(
        self, login: Login, late: FastAPI, alice: str, bearer, logged
    ):
        await login.do("ALTER ROLE {role} BYPASSRLS")
        for path in ("/api/v1/conversations", "/health/ready") * 3:
            assert 503 == (await ask(late, path, bearer(alice))).status_code

        assert 1 == logged.getvalue().count("database-refused")
