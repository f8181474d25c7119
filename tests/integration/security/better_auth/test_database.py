"""deploy/better-auth/roles.sql and grants.sql: they run again, and change nothing where they are refused."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.better_auth import Installation
from tests.databases import DatabaseUrls, connected, make_roles, url_of


async def catalogue(url: str) -> list[object]:
    """What the two files and the migration change, passwords apart."""
    async with connected(url) as admin:
        return [
            await admin.fetch(
                "SELECT rolname, rolcanlogin, rolsuper, rolbypassrls, rolcreatedb, rolcreaterole,"
                " rolreplication FROM pg_roles WHERE oid IN (SELECT nspowner FROM pg_namespace"
                "  UNION SELECT grantee FROM pg_database, aclexplode(datacl)"
                "  WHERE datname = current_database()) ORDER BY 1"
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

        await another.make_roles()
        again = another.migrate()

        assert (6, 0) == (first["tables"], again["tables"])
        assert before == await catalogue(postgres.admin)

    async def test_it_takes_back_what_its_own_roles_were_given(
        self, another: Installation, postgres: DatabaseUrls
    ):
        before = await catalogue(postgres.admin)
        async with connected(postgres.admin) as admin:
            for role in (another.role, another.reader):
                await admin.execute(
                    f"ALTER ROLE {role} SUPERUSER BYPASSRLS CREATEDB CREATEROLE REPLICATION;"
                    f"GRANT ALL ON SCHEMA public TO {role};"
                    f"GRANT ALL ON DATABASE {postgres.name} TO {role}"
                )

        await another.make_roles()

        assert before == await catalogue(postgres.admin)

    async def test_it_takes_back_what_the_reader_was_given(
        self, another: Installation, postgres: DatabaseUrls
    ):
        another.migrate()
        before = await catalogue(postgres.admin)
        async with connected(another.url) as owner:
            await owner.execute(
                f"GRANT ALL ON session TO {another.reader}, PUBLIC;"
                "ALTER TABLE session DISABLE ROW LEVEL SECURITY;"
                "ALTER POLICY parley_lookup ON session TO PUBLIC USING (true)"
            )

        another.migrate()

        assert before == await catalogue(postgres.admin)

    async def test_it_takes_back_what_an_earlier_version_gave_the_apis_role(
        self, another: Installation, postgres: DatabaseUrls
    ):
        another.migrate()
        before = await catalogue(postgres.admin)
        api = urlsplit(postgres.api).username
        async with connected(another.url) as owner:
            await owner.execute(
                f"GRANT USAGE ON SCHEMA auth TO {api};"  # noqa: S608 - its own names
                f'GRANT SELECT (token, "expiresAt", "userId") ON session TO {api};'
                f"REVOKE ALL ON session FROM {another.reader};"
                f"ALTER POLICY parley_lookup ON session TO {api}"
            )

        await another.make_roles()
        another.migrate()

        assert before == await catalogue(postgres.admin)

    async def test_two_at_once_are_fine(self, another: Installation):
        results = await asyncio.gather(*(asyncio.to_thread(another.migrate) for _ in range(3)))

        assert [0, 0, 6] == sorted(result["tables"] for result in results)

    async def test_one_that_takes_its_time_is_waited_for(self, another: Installation):
        """For longer than a query of the service may take."""
        async with connected(another.url) as first, first.transaction():
            await first.execute("SELECT pg_advisory_xact_lock(hashtext('parley auth'))")
            second = asyncio.create_task(asyncio.to_thread(another.migrate))
            await asyncio.sleep(12)  # it is the time that counts, and no state
        assert 6 == (await second)["tables"]

    async def test_a_migration_that_fails_leaves_nothing(
        self, another: Installation, postgres: DatabaseUrls
    ):
        """As where the reader is not there: no table without its policy."""
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
            ({"parley.reader_password": ""}, "reader_password is not set"),
            ({"parley.reader": "{api}"}, "must be roles of their own"),
            ({"parley.reader": "{owner}"}, "must be roles of their own"),
            ({"parley.reader": "{admin}"}, "must be roles of their own"),
            ({"parley.auth": "same", "parley.reader": "same"}, "must be roles of their own"),
            ({"parley.auth": "{api}"}, "must be roles of their own"),
            ({"parley.auth": "{owner}"}, "must be roles of their own"),
            ({"parley.auth": "{admin}"}, "must be roles of their own"),
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
            await Installation(postgres).make_roles(
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

    async def test_makes_the_roles_and_may_run_the_file_again(
        self, managed: DatabaseUrls, postgres_admin_url: str
    ):
        installation = Installation(managed)
        await installation.make_roles()
        before = await catalogue(managed.admin)
        await installation.make_roles()

        assert before == await catalogue(managed.admin)
        assert 6 == installation.migrate()["tables"]
        await installation.remove(url_of(postgres_admin_url, managed.name))
