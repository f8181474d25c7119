"""deploy/better-auth/roles.sql and grants.sql: two systems in one database, apart but for a look-up."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.better_auth import BetterAuth, Installation, Person
from tests.databases import DatabaseUrls, connected, make_roles, url_of


@asynccontextmanager
async def looking_for(url: str, token: str | None) -> AsyncGenerator[asyncpg.Connection]:
    """A transaction of the API's role, in which `app.lookup` is this token."""
    async with connected(url) as connection, connection.transaction():
        if token is not None:
            await connection.execute("SELECT set_config('app.lookup', $1, true)", token)
        yield connection


class TestWhatParleysRoleSees:
    """Groups C and D, of another system's tables."""

    COLUMNS = 'SELECT token, "expiresAt", "userId" FROM auth.session'

    async def test_of_all_sessions_the_one_that_is_looked_up(
        self, shared_database: DatabaseUrls, ann: Person, ben: Person
    ):
        for person in (ann, ben):
            token = person.token.partition(".")[0]
            async with looking_for(shared_database.api, token) as api:
                rows = await api.fetch(self.COLUMNS)

            assert [(token, person.user_id)] == [(row["token"], row["userId"]) for row in rows]

    @pytest.mark.usefixtures("ann")
    @pytest.mark.parametrize("token", [None, "", "%", "nobody's"])
    async def test_nothing_without_a_token(self, shared_database: DatabaseUrls, token: str | None):
        async with looking_for(shared_database.api, token) as api:
            assert [] == await api.fetch(self.COLUMNS)

    async def test_three_columns_of_one_table_and_no_more(
        self, shared_database: DatabaseUrls, installation: Installation
    ):
        api = urlsplit(shared_database.api).username
        async with connected(shared_database.admin) as admin:
            columns = await admin.fetch(
                """
                SELECT relname, attname FROM pg_class
                JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
                WHERE relnamespace = 'auth'::regnamespace AND relkind IN ('r', 'v', 'm', 'p')
                AND has_column_privilege($1, pg_class.oid, attname, 'SELECT')
                """,
                api,
            )
            writable = await admin.fetch(
                """
                SELECT relname FROM pg_class WHERE relnamespace = 'auth'::regnamespace
                AND relkind IN ('r', 'v', 'm', 'p') AND (
                  has_any_column_privilege($1, oid, 'INSERT, UPDATE, REFERENCES')
                  OR has_table_privilege($1, oid, 'DELETE, TRUNCATE, TRIGGER'))
                """,
                api,
            )
            makes = await admin.fetchval(
                "SELECT has_schema_privilege($1, 'auth', 'CREATE')"
                " OR pg_has_role($1, $2, 'MEMBER')",
                api,
                installation.role,
            )

        assert {("session", "token"), ("session", "expiresAt"), ("session", "userId")} == {
            tuple(column) for column in columns
        }
        assert ([], False) == (writable, makes)

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
        ],
    )
    async def test_all_else_is_refused(
        self, shared_database: DatabaseUrls, ann: Person, statement: str
    ):
        async with looking_for(shared_database.api, ann.token.partition(".")[0]) as api:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await api.execute(statement)


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


async def catalogue(url: str) -> list[object]:
    """What the two files and the migration change, passwords apart."""
    async with connected(url) as admin:
        return [
            await admin.fetch(
                "SELECT rolname, rolcanlogin, rolsuper, rolbypassrls, rolcreatedb, rolcreaterole,"
                " rolreplication FROM pg_roles WHERE oid IN (SELECT nspowner FROM pg_namespace)"
                " ORDER BY 1"
            ),
            await admin.fetch("SELECT nspname, nspowner, nspacl FROM pg_namespace ORDER BY 1"),
            await admin.fetch(
                "SELECT relname, relowner, relacl, relrowsecurity, relforcerowsecurity"
                " FROM pg_class ORDER BY 1"
            ),
            await admin.fetch(
                "SELECT attrelid::regclass::text, attname, attacl::text FROM pg_attribute"
                " WHERE attacl IS NOT NULL AND attrelid >= 16384 ORDER BY 1, 2"
            ),
            await admin.fetch("SELECT * FROM pg_policies ORDER BY tablename, policyname"),
            await admin.fetch("SELECT datacl FROM pg_database WHERE datname = current_database()"),
            await admin.fetch(
                "SELECT setrole::regrole::text, setconfig FROM pg_db_role_setting"
                " JOIN pg_database ON setdatabase = pg_database.oid"
                " WHERE datname = current_database()"
            ),
        ]


class TestDoingItAgain:
    async def test_the_files_and_the_migration_change_nothing(
        self, another: Installation, postgres: DatabaseUrls
    ):
        first = another.migrate()
        before = await catalogue(postgres.admin)

        await another.make_role()
        again = another.migrate()

        assert (6, 0) == (first["tables"], again["tables"])
        assert before == await catalogue(postgres.admin)

    async def test_it_takes_back_what_its_own_role_was_given(
        self, another: Installation, postgres: DatabaseUrls
    ):
        before = await catalogue(postgres.admin)
        async with connected(postgres.admin) as admin:
            await admin.execute(
                f"ALTER ROLE {another.role} SUPERUSER BYPASSRLS CREATEDB CREATEROLE REPLICATION;"
                f"GRANT ALL ON SCHEMA public TO {another.role};"
                f"GRANT ALL ON DATABASE {postgres.name} TO {another.role}"
            )

        await another.make_role()

        assert before == await catalogue(postgres.admin)

    async def test_it_takes_back_what_parleys_role_was_given(
        self, another: Installation, postgres: DatabaseUrls
    ):
        another.migrate()
        before = await catalogue(postgres.admin)
        api = urlsplit(postgres.api).username
        async with connected(another.url) as owner:
            await owner.execute(
                f"GRANT ALL ON session TO {api}, PUBLIC;"
                "ALTER TABLE session DISABLE ROW LEVEL SECURITY;"
                f"ALTER POLICY parley_lookup ON session USING (true)"
            )

        another.migrate()

        assert before == await catalogue(postgres.admin)

    async def test_two_at_once_are_fine(self, another: Installation):
        results = await asyncio.gather(*(asyncio.to_thread(another.migrate) for _ in range(3)))

        assert [0, 0, 6] == sorted(result["tables"] for result in results)

    async def test_a_migration_that_fails_leaves_nothing(
        self, another: Installation, postgres: DatabaseUrls
    ):
        """As where Parley's role is not there: no table without its policy."""
        async with connected(postgres.admin) as admin:
            await admin.execute(
                f"ALTER ROLE {another.role} IN DATABASE {postgres.name}"
                " SET parley.session_table = 'auth.sessions'"
            )

            with pytest.raises(AssertionError, match=r"there is no table auth\.sessions"):
                await asyncio.to_thread(another.migrate)

            assert 0 == await admin.fetchval(
                "SELECT count(*) FROM pg_class WHERE relowner = $1::regrole AND relkind = 'r'",
                another.role,
            )


class TestAWrongParameter:
    @pytest.mark.parametrize(
        ("changed", "match"),
        [
            ({"parley.auth_password": ""}, "auth_password is not set"),
            ({"parley.auth": "{api}"}, "must be a role of its own"),
            ({"parley.auth": "{owner}"}, "must be a role of its own"),
            ({"parley.auth": "{admin}"}, "must be a role of its own"),
            ({"parley.auth_schema": "public"}, "a schema of its own"),
            ({"parley.auth_schema": "pg_mine"}, "a schema of its own"),
            ({"parley.auth_schema": "taken"}, "is somebody else's already"),
        ],
    )
    async def test_it_is_refused_and_nothing_is_changed(
        self, postgres: DatabaseUrls, changed: dict[str, str], match: str
    ):
        names = {
            name: urlsplit(getattr(postgres, name)).username for name in ("api", "owner", "admin")
        }
        async with connected(postgres.admin) as admin:
            await admin.execute("CREATE SCHEMA taken")
        before = await catalogue(postgres.admin)

        with pytest.raises(asyncpg.InvalidParameterValueError, match=match):
            await Installation(postgres).make_role(
                **{name: value.format(**names) for name, value in changed.items()}
            )

        assert before == await catalogue(postgres.admin)


class TestAnAdministratorWhoIsNoSuperuser:
    """As hosted PostgreSQL has it: one who owns the database and may make roles."""

    @pytest.fixture
    async def managed(self, postgres_admin_url: str) -> AsyncGenerator[DatabaseUrls]:
        run = secrets.token_hex(4)
        name, administrator = f"managed_{run}", f"administrator_{run}"
        roles = {"owner": f"owner_{run}", "api": f"api_{run}"}
        async with connected(postgres_admin_url) as admin:
            await admin.execute(
                f"CREATE ROLE {administrator} LOGIN PASSWORD 'known' CREATEROLE CREATEDB BYPASSRLS"
            )
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 OWNER {administrator}")
        known = {
            who: url_of(postgres_admin_url, name, user=role, password="known")
            for who, role in (roles | {"admin": administrator}).items()
        }
        passwords = {"owner_password": "known", "api_password": "known"}
        await make_roles(known["admin"], **roles, **passwords)
        yield DatabaseUrls(name, **known)
        async with connected(postgres_admin_url) as admin:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
            await admin.execute(f"DROP ROLE {roles['owner']}, {roles['api']}, {administrator}")

    async def test_makes_the_role_and_may_run_the_file_again(
        self, managed: DatabaseUrls, postgres_admin_url: str
    ):
        installation = Installation(managed)
        await installation.make_role()
        before = await catalogue(managed.admin)
        await installation.make_role()

        assert before == await catalogue(managed.admin)
        assert 6 == installation.migrate()["tables"]
        await installation.remove(url_of(postgres_admin_url, managed.name))
