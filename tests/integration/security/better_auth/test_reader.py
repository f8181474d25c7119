"""Two systems in one database, apart but for a look-up, by a role that can do nothing else."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest
from httpx import ASGITransport, AsyncClient

from parley.core.settings import Settings
from parley.main import create_app
from tests.better_auth import SESSION_TABLE, BetterAuth, Installation, Person
from tests.conftest import SECRET
from tests.databases import DatabaseUrls, connected
from tests.issuers import signed_session
from tests.processes import PASSWORD


@asynccontextmanager
async def looking_for(url: str, token: str | None) -> AsyncGenerator[asyncpg.Connection]:
    """A transaction of the reader's, in which `app.lookup` is this token."""
    async with connected(url) as connection, connection.transaction():
        if token is not None:
            await connection.execute("SELECT set_config('app.lookup', $1, true)", token)
        yield connection


async def powers_of(
    role: str, database: DatabaseUrls
) -> tuple[set[tuple[str, str]], list[asyncpg.Record]]:
    """The columns that it may read in the schema auth, and the tables that it may do more with."""
    async with connected(database.admin) as admin:
        columns = await admin.fetch(
            """
            SELECT relname, attname FROM pg_class
            JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
            WHERE relnamespace = 'auth'::regnamespace AND relkind IN ('r', 'v', 'm', 'p')
            AND has_column_privilege($1, pg_class.oid, attname, 'SELECT')
            """,
            role,
        )
        others = await admin.fetch(
            """
            SELECT relname FROM pg_class WHERE relnamespace = 'auth'::regnamespace
            AND relkind IN ('r', 'v', 'm', 'p') AND (
              has_any_column_privilege($1, oid, 'INSERT, UPDATE, REFERENCES')
              OR has_table_privilege($1, oid, 'DELETE, TRUNCATE, TRIGGER'))
            """,
            role,
        )
    return {(table, column) for table, column in columns}, others


# What the owner of the table may have whoever reads it run: nothing written, and yet told.
LEAK = """
CREATE FUNCTION leak() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.user_id', '{victim}', true);
    PERFORM set_config('search_path', 'pg_temp, auth, public', false);
    PERFORM pg_notify('leak', (SELECT string_agg(content, ',') FROM public.messages));
    RETURN true;
EXCEPTION WHEN insufficient_privilege THEN
    PERFORM pg_notify('leak', current_user || ': ' || SQLERRM);
    RETURN true;
END
$$;
CREATE POLICY leak ON session AS RESTRICTIVE USING (leak());
INSERT INTO "user" (id, name, email, "emailVerified") VALUES ('mallory', '', 'm@example.com', true);
INSERT INTO session (id, token, "userId", "expiresAt", "updatedAt")
    VALUES ('1', 'mallorys', 'mallory', now() + '1 hour', now());
"""


class TestTheOwnerOfTheTable:
    @pytest.fixture
    async def client(
        self, another: Installation, postgres: DatabaseUrls
    ) -> AsyncGenerator[AsyncClient]:
        another.migrate()
        settings = Settings(
            auth_mode=("local", "better-auth"),
            auth_secret=SECRET,
            better_auth_url="https://auth.example.com",
            better_auth_secret=another.secret,
            better_auth_database_url=another.reader_url,
            better_auth_session_table=SESSION_TABLE,
            database_url=postgres.api,
            database_timeout_seconds=30,
        )
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            async with AsyncClient(transport=ASGITransport(app), base_url="http://api") as client:
                yield client

    async def test_has_parley_run_what_it_likes_and_learns_nothing(
        self, client: AsyncClient, another: Installation
    ):
        login = {"email": "victim@example.com", "password": PASSWORD}
        victim = (await client.post("/api/v1/auth/register", json=login)).json()
        words = {"Authorization": f"Bearer {victim['access_token']}"}
        said = {"message": "the victim's secret"}
        assert 200 == (await client.post("/api/v1/me/chat", json=said, headers=words)).status_code
        mallory = {"Authorization": f"Bearer {signed_session('mallorys', another.secret)}"}
        told: asyncio.Queue[str] = asyncio.Queue()

        async with connected(another.url) as owner:
            await owner.execute(LEAK.format(victim=victim["user"]["id"]))
            await owner.add_listener("leak", lambda *notice: told.put_nowait(notice[-1]))
            looked_up = await client.get("/api/v1/conversations", headers=mallory)
            learnt = await asyncio.wait_for(told.get(), timeout=10)

        assert (200, []) == (looked_up.status_code, looked_up.json()["items"])
        assert f"{another.reader}: permission denied for table messages" == learnt
        listed = await client.get("/api/v1/conversations", headers=words)
        assert 1 == len(listed.json()["items"])


class TestTheReader:
    """Groups C and D: the role by which Parley looks up, at another system's tables and its own."""

    COLUMNS = 'SELECT token, "expiresAt", "userId" FROM auth.session'

    async def test_of_all_sessions_the_one_that_is_looked_up(
        self, installation: Installation, ann: Person, ben: Person
    ):
        for person in (ann, ben):
            token = person.token.partition(".")[0]
            async with looking_for(installation.reader_url, token) as reader:
                rows = await reader.fetch(self.COLUMNS)

            assert [(token, person.user_id)] == [(row["token"], row["userId"]) for row in rows]

    @pytest.mark.usefixtures("ann")
    @pytest.mark.parametrize("token", [None, "", "%", "nobody's"])
    async def test_nothing_without_a_token(self, installation: Installation, token: str | None):
        async with looking_for(installation.reader_url, token) as reader:
            assert [] == await reader.fetch(self.COLUMNS)

    async def test_three_columns_of_one_table_and_no_more(
        self, shared_database: DatabaseUrls, installation: Installation
    ):
        columns, others = await powers_of(installation.reader, shared_database)

        assert {
            ("session", "token"),
            ("session", "expiresAt"),
            ("session", "userId"),
        } == columns
        assert [] == others

    async def test_it_is_no_member_and_makes_nothing(
        self, shared_database: DatabaseUrls, installation: Installation
    ):
        async with connected(shared_database.admin) as admin:
            attributes = await admin.fetchrow(
                """
                SELECT rolcanlogin, rolsuper, rolbypassrls, rolcreatedb, rolcreaterole,
                  rolreplication, EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid),
                  has_database_privilege(oid, current_database(), 'CREATE, TEMPORARY'),
                  has_schema_privilege(oid, 'auth', 'CREATE'),
                  has_schema_privilege(oid, 'public', 'CREATE')
                FROM pg_roles WHERE rolname = $1
                """,
                installation.reader,
            )

        assert (True, *[False] * 9) == tuple(attributes)

    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT * FROM auth.session",
            'SELECT "ipAddress" FROM auth.session',
            'SELECT count(*) FROM auth."user"',
            "SELECT password FROM auth.account",
            'SELECT "privateKey" FROM auth.jwks',
            "DELETE FROM auth.session",
            """UPDATE auth.session SET "expiresAt" = 'infinity'""",
            "CREATE TABLE auth.mine ()",
            "CREATE TEMPORARY TABLE mine ()",
            "SELECT FROM public.messages",
            "SELECT FROM public.users",
            "SELECT FROM public.workers",
        ],
    )
    async def test_all_else_is_refused(
        self, installation: Installation, ann: Person, statement: str
    ):
        token = ann.token.partition(".")[0]
        async with looking_for(installation.reader_url, token) as reader:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(statement)


class TestTheApisRole:
    async def test_has_nothing_in_better_auths_schema(
        self, shared_database: DatabaseUrls, installation: Installation
    ):
        api = urlsplit(shared_database.api).username or ""
        async with connected(shared_database.admin) as admin:
            enters = await admin.fetchval(
                "SELECT has_schema_privilege($1, 'auth', 'USAGE, CREATE')"
                " OR pg_has_role($1, $2, 'MEMBER') OR pg_has_role($1, $3, 'MEMBER')",
                api,
                installation.role,
                installation.reader,
            )

        assert not enters
        assert (set(), []) == await powers_of(api, shared_database)


class TestBetterAuthsRole:
    async def test_has_no_power_over_parleys_tables_or_roles(
        self, better_auth: BetterAuth, shared_database: DatabaseUrls, installation: Installation
    ):
        async with connected(shared_database.admin) as admin:
            tables = await admin.fetch(
                """
                SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
                AND relkind IN ('r', 'v', 'm', 'p') AND (
                  has_any_column_privilege($1, oid, 'SELECT, INSERT, UPDATE, REFERENCES')
                  OR has_table_privilege($1, oid, 'DELETE, TRUNCATE, TRIGGER'))
                """,
                installation.role,
            )
            attributes = await admin.fetchrow(
                "SELECT rolcanlogin, rolsuper, rolbypassrls, rolcreatedb, rolcreaterole,"
                " rolreplication FROM pg_roles WHERE rolname = $1",
                installation.role,
            )
            memberships = await admin.fetchval(
                "SELECT count(*) FROM pg_auth_members WHERE member = $1::regrole",
                installation.role,
            )

        assert [] == tables
        assert (True, False, False, False, False, False) == tuple(attributes)
        assert 0 == memberships
        async with connected(better_auth.owner_url) as owner:
            for statement in (
                "CREATE TABLE public.mine ()",
                "CREATE SCHEMA mine",
                "CREATE ROLE a",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await owner.execute(statement)

    async def test_all_that_it_makes_is_in_its_schema(
        self, shared_database: DatabaseUrls, installation: Installation
    ):
        async with connected(shared_database.admin) as admin:
            schemas = await admin.fetch(
                "SELECT DISTINCT relnamespace::regnamespace::text FROM pg_class"
                " WHERE relowner = $1::regrole AND relkind = 'r'",
                installation.role,
            )

        assert [("auth",)] == [tuple(row) for row in schemas]
