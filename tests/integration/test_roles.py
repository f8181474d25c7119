"""deploy/postgres/roles.sql, on a real server."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

import asyncpg
import pytest

from tests.databases import ROLES_SQL, connected, make_roles, url_of

ATTRIBUTES = """
    SELECT rolcanlogin, rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolreplication
    FROM pg_roles WHERE rolname = $1
"""


async def assert_only_the_owner_sees_what_is_forced(
    owner: asyncpg.Connection, api: asyncpg.Connection
) -> None:
    await owner.execute(
        """
        CREATE TABLE notes (word text);
        INSERT INTO notes VALUES ('hidden');
        ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
        ALTER TABLE notes FORCE ROW LEVEL SECURITY;
        """
    )
    assert 1 == await owner.fetchval("SELECT count(*) FROM notes")
    assert 0 == await api.fetchval("SELECT count(*) FROM notes")


@dataclass(frozen=True)
class Place:
    """An empty database, and the roles that a run of roles.sql is to make in it."""

    database: str
    admin_url: str
    owner: str
    api: str
    owner_password: str | None = 'the owner\'s \\ $roles$ "secret"; --'
    api_password: str = "the api's 'secret' :x %L"

    @property
    def owner_url(self) -> str:
        return url_of(self.admin_url, self.database, user=self.owner, password=self.owner_password)

    @property
    def api_url(self) -> str:
        return url_of(self.admin_url, self.database, user=self.api, password=self.api_password)

    async def make_roles(self) -> None:
        await make_roles(
            self.admin_url,
            owner=self.owner,
            owner_password=self.owner_password,
            api=self.api,
            api_password=self.api_password,
        )


@pytest.fixture
async def empty(postgres_admin_url: str) -> AsyncGenerator[Place]:
    """Before roles.sql."""
    run = secrets.token_hex(4)
    database, owner, api = f"roles_{run}", f"owner_{run}", f"Api {run}"
    async with connected(postgres_admin_url) as admin:
        await admin.execute(f"CREATE DATABASE {database} TEMPLATE template0")
    yield Place(database, url_of(postgres_admin_url, database), owner, api)
    await remove(postgres_admin_url, database, owner, api)


async def remove(admin_url: str, database: str, *roles: str) -> None:
    async with connected(admin_url) as admin:
        await admin.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        for role in roles:
            await admin.execute(f'DROP ROLE IF EXISTS "{role}"')


@pytest.fixture
async def place(empty: Place) -> Place:
    """After roles.sql."""
    await empty.make_roles()
    return empty


@pytest.fixture
async def admin(place: Place) -> AsyncGenerator[asyncpg.Connection]:
    async with connected(place.admin_url) as connection:
        yield connection


@pytest.fixture
async def owner(place: Place) -> AsyncGenerator[asyncpg.Connection]:
    async with connected(place.owner_url) as connection:
        yield connection


@pytest.fixture
async def api(place: Place) -> AsyncGenerator[asyncpg.Connection]:
    async with connected(place.api_url) as connection:
        yield connection


class TestTheOwnerRole:
    async def test_bypasses_row_level_security_and_has_no_other_power(
        self, admin: asyncpg.Connection, place: Place
    ) -> None:
        attributes = await admin.fetchrow(ATTRIBUTES, place.owner)

        assert (True, False, True, False, False, False) == tuple(attributes)

    async def test_owns_the_database_and_the_schema(
        self, admin: asyncpg.Connection, place: Place
    ) -> None:
        database = await admin.fetchval(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
        )
        schema = await admin.fetchval(
            "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'"
        )

        assert (place.owner, place.owner) == (database, schema)

    async def test_reads_rows_that_forced_policies_hide_from_others(
        self, owner: asyncpg.Connection, api: asyncpg.Connection
    ) -> None:
        await assert_only_the_owner_sees_what_is_forced(owner, api)


class TestTheApiRole:
    async def test_may_log_in_and_has_no_other_power(
        self, admin: asyncpg.Connection, place: Place
    ) -> None:
        attributes = await admin.fetchrow(ATTRIBUTES, place.api)

        assert (True, False, False, False, False, False) == tuple(attributes)

    async def test_owns_nothing_and_is_a_member_of_nothing(
        self, admin: asyncpg.Connection, owner: asyncpg.Connection, place: Place
    ) -> None:
        await owner.execute("CREATE TABLE notes (id serial)")

        owned = await admin.fetchval(
            "SELECT count(*) FROM pg_shdepend WHERE deptype = 'o' AND refobjid = "
            "(SELECT oid FROM pg_roles WHERE rolname = $1)",
            place.api,
        )
        memberships = await admin.fetchval(
            "SELECT count(*) FROM pg_auth_members WHERE member = "
            "(SELECT oid FROM pg_roles WHERE rolname = $1)",
            place.api,
        )

        assert (0, 0) == (owned, memberships)

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE TABLE mine ()",
            "CREATE TEMPORARY TABLE mine ()",
            "CREATE SCHEMA mine",
            "CREATE FUNCTION mine() RETURNS int RETURN 1",
        ],
    )
    async def test_cannot_create_anything(self, api: asyncpg.Connection, statement: str) -> None:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.execute(statement)

    async def test_reads_and_writes_a_table_that_the_owner_makes_later(
        self, owner: asyncpg.Connection, api: asyncpg.Connection
    ) -> None:
        await owner.execute("CREATE TABLE notes (id serial, word text)")

        await api.execute("INSERT INTO notes (word) VALUES ('first'), ('second')")
        await api.execute("UPDATE notes SET word = 'third' WHERE id = 2")
        await api.execute("DELETE FROM notes WHERE id = 1")

        assert [(2, "third")] == [tuple(row) for row in await api.fetch("SELECT * FROM notes")]

    @pytest.mark.parametrize(
        "statement",
        [
            "DROP TABLE notes",
            "ALTER TABLE notes ADD COLUMN more text",
            "ALTER TABLE notes DISABLE ROW LEVEL SECURITY",
            "TRUNCATE notes",
            "CREATE INDEX ON notes (word)",
            "ALTER TABLE notes OWNER TO CURRENT_USER",
        ],
    )
    async def test_cannot_change_what_a_table_is(
        self, owner: asyncpg.Connection, api: asyncpg.Connection, statement: str
    ) -> None:
        await owner.execute("CREATE TABLE notes (word text)")

        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.execute(statement)


class TestOthers:
    async def test_cannot_connect(self, admin: asyncpg.Connection, place: Place) -> None:
        stranger = f"stranger_{secrets.token_hex(4)}"
        await admin.execute(f"CREATE ROLE {stranger} LOGIN PASSWORD 'known'")
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await asyncpg.connect(
                    url_of(place.admin_url, place.database, user=stranger, password="known")
                )
        finally:
            await admin.execute(f"DROP ROLE {stranger}")


class TestRunningTheFileAgain:
    async def test_changes_nothing_but_the_passwords(
        self, place: Place, owner: asyncpg.Connection
    ) -> None:
        await owner.execute("CREATE TABLE notes (word text)")
        before = await catalogue(place)
        later = replace(place, owner_password="new 'one'", api_password="new 'two'")

        await later.make_roles()

        assert before == await catalogue(later)
        async with connected(later.api_url) as api:
            assert 0 == await api.fetchval("SELECT count(*) FROM notes")
        async with connected(later.owner_url) as again:
            assert later.owner == await again.fetchval("SELECT current_user")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(place.api_url)

    async def test_takes_back_what_the_api_role_was_given(
        self, place: Place, admin: asyncpg.Connection
    ) -> None:
        before = await catalogue(place)
        await admin.execute(
            f'ALTER ROLE "{place.api}" SUPERUSER BYPASSRLS CREATEDB CREATEROLE REPLICATION;'
            f'GRANT CREATE ON SCHEMA public TO "{place.api}", PUBLIC;'
            f'GRANT ALL ON DATABASE {place.database} TO "{place.api}", PUBLIC'
        )

        await place.make_roles()

        assert before == await catalogue(place)

    async def test_twice_at_once_is_fine(self, empty: Place) -> None:
        await asyncio.gather(*(empty.make_roles() for _ in range(5)))


async def catalogue(place: Place) -> list[object]:
    """What roles.sql changes, passwords apart."""
    async with connected(place.admin_url) as admin:
        return [
            await admin.fetch(ATTRIBUTES, place.owner),
            await admin.fetch(ATTRIBUTES, place.api),
            await admin.fetch(
                "SELECT datdba, datacl FROM pg_database WHERE datname = $1", place.database
            ),
            await admin.fetch("SELECT nspname, nspowner, nspacl FROM pg_namespace ORDER BY 1"),
            await admin.fetch("SELECT relname, relowner, relacl FROM pg_class ORDER BY 1"),
            await admin.fetch(
                "SELECT defaclrole, defaclobjtype, defaclacl FROM pg_default_acl ORDER BY 2"
            ),
        ]


class TestAWrongParameter:
    @pytest.mark.parametrize("missing", ["parley.owner_password", "parley.api_password"])
    @pytest.mark.parametrize("value", [None, ""])
    async def test_a_missing_password_says_what_to_set_and_how(
        self, empty: Place, missing: str, value: str | None
    ) -> None:
        given = {"parley.owner_password": "one", "parley.api_password": "two", missing: value}
        async with connected(empty.admin_url) as admin:
            for name, password in given.items():
                if password is not None:
                    await admin.execute("SELECT set_config($1, $2, false)", name, password)

            with pytest.raises(asyncpg.InvalidParameterValueError) as refusal:
                await admin.execute(ROLES_SQL.read_text())

        assert f"{missing} is not set" == refusal.value.args[0]
        assert f'PGOPTIONS="-c {missing}=..."' in str(refusal.value.hint)
        assert f"SET {missing} = '...'" in str(refusal.value.hint)

    async def test_one_role_cannot_be_both(self, empty: Place) -> None:
        with pytest.raises(asyncpg.InvalidParameterValueError, match="must be three roles"):
            await replace(empty, api=empty.owner).make_roles()

    async def test_an_administrator_is_not_made_the_api_role(self, empty: Place) -> None:
        async with connected(empty.admin_url) as admin:
            myself = await admin.fetchval("SELECT current_user")

        with pytest.raises(asyncpg.InvalidParameterValueError, match="must be three roles"):
            await replace(empty, api=myself).make_roles()

    async def test_a_superuser_does_not_become_the_owner(self, empty: Place) -> None:
        async with connected(empty.admin_url) as admin:
            myself = await admin.fetchval("SELECT current_user")

        with pytest.raises(asyncpg.InvalidParameterValueError, match="must be three roles"):
            await replace(empty, owner=myself).make_roles()


@pytest.fixture
async def managed(empty: Place, postgres_admin_url: str, powers: str) -> AsyncGenerator[Place]:
    name = f"managed_{secrets.token_hex(4)}"
    async with connected(postgres_admin_url) as admin:
        await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'known' {powers}")
        await admin.execute(f"ALTER DATABASE {empty.database} OWNER TO {name}")
    url = url_of(postgres_admin_url, empty.database, user=name, password="known")
    yield replace(empty, admin_url=url)
    await remove(postgres_admin_url, empty.database, empty.owner, empty.api, name)


class TestAnAdministratorWhoIsNoSuperuser:
    """As hosted PostgreSQL has it: one who owns the database and may make roles."""

    @pytest.mark.parametrize("powers", ["CREATEROLE CREATEDB BYPASSRLS"])
    async def test_makes_the_same_roles_and_may_run_the_file_again(self, managed: Place) -> None:
        await managed.make_roles()
        before = await catalogue(managed)
        await managed.make_roles()

        assert before == await catalogue(managed)
        async with connected(managed.owner_url) as owner, connected(managed.api_url) as api:
            assert (True, False, True, False, False, False) == tuple(
                await owner.fetchrow(ATTRIBUTES, managed.owner)
            )
            await owner.execute("CREATE TABLE notes (word text)")
            assert 0 == await api.fetchval("SELECT count(*) FROM notes")

    @pytest.mark.parametrize(
        "powers", ["CREATEROLE CREATEDB", "CREATEDB BYPASSRLS", "CREATEROLE BYPASSRLS"]
    )
    async def test_without_a_power_is_told_what_is_needed(
        self, managed: Place, postgres_admin_url: str
    ) -> None:
        with pytest.raises(asyncpg.InsufficientPrivilegeError) as refusal:
            await managed.make_roles()

        assert "CREATEROLE, CREATEDB and BYPASSRLS" in str(refusal.value.hint)
        async with connected(postgres_admin_url) as admin:
            made = await admin.fetchval(
                "SELECT count(*) FROM pg_roles WHERE rolname = ANY ($1)",
                [managed.owner, managed.api],
            )
        assert 0 == made

    @pytest.mark.parametrize("powers", ["CREATEROLE CREATEDB BYPASSRLS"])
    async def test_refused_leaves_no_password_in_the_report(
        self, managed: Place, postgres_admin_url: str
    ) -> None:
        """The server writes the same report into its log."""
        async with connected(postgres_admin_url) as admin:
            await admin.execute(f"CREATE ROLE {managed.owner}")

        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="alter role") as refusal:
            await replace(managed, owner_password="hush").make_roles()

        assert "inline_code_block" in refusal.value.context
        assert "hush" not in f"{refusal.value}{refusal.value.context}"


class TestAnAdministratorWhoIsTheOwner:
    """As Neon has it: the role that its console shows owns the database, makes roles and migrates."""

    @pytest.fixture
    async def own(self, managed: Place) -> Place:
        async with connected(managed.admin_url) as admin:
            myself = await admin.fetchval("SELECT current_user")
        return replace(managed, owner=myself, owner_password=None)

    @pytest.mark.parametrize(
        "powers", ["CREATEROLE CREATEDB BYPASSRLS REPLICATION", "CREATEROLE BYPASSRLS"]
    )
    async def test_stays_as_it_is_and_makes_the_api_role(self, own: Place) -> None:
        async with connected(own.admin_url) as admin:
            before = await admin.fetchrow(ATTRIBUTES, own.owner)

        await own.make_roles()

        async with connected(own.admin_url) as owner, connected(own.api_url) as api:
            assert before == await owner.fetchrow(ATTRIBUTES, own.owner)
            assert (True, False, False, False, False, False) == tuple(
                await owner.fetchrow(ATTRIBUTES, own.api)
            )
            await assert_only_the_owner_sees_what_is_forced(owner, api)
            for statement in ("CREATE TABLE mine ()", "CREATE TEMPORARY TABLE mine ()"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await api.execute(statement)

    @pytest.mark.parametrize("powers", ["CREATEROLE CREATEDB BYPASSRLS"])
    async def test_may_run_the_file_again(self, own: Place) -> None:
        await own.make_roles()
        before = await catalogue(own)
        later = replace(own, api_password="another")

        await later.make_roles()

        assert before == await catalogue(later)
        async with connected(later.api_url) as api:
            assert later.api == await api.fetchval("SELECT current_user")

    @pytest.mark.parametrize("powers", ["CREATEROLE CREATEDB", "CREATEDB BYPASSRLS"])
    async def test_without_a_power_is_told_what_is_needed(self, own: Place) -> None:
        with pytest.raises(asyncpg.InsufficientPrivilegeError) as refusal:
            await own.make_roles()

        assert "CREATEROLE, CREATEDB and BYPASSRLS" in str(refusal.value.hint)
        async with connected(own.admin_url) as admin:
            assert not await admin.fetchval(
                "SELECT count(*) FROM pg_roles WHERE rolname = $1", own.api
            )

    @pytest.mark.parametrize("powers", ["CREATEROLE CREATEDB BYPASSRLS"])
    async def test_of_another_database_is_told_what_is_needed(
        self, own: Place, postgres_admin_url: str
    ) -> None:
        async with connected(postgres_admin_url) as admin:
            await admin.execute(f"ALTER DATABASE {own.database} OWNER TO CURRENT_USER")

        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="owner of") as refusal:
            await own.make_roles()

        assert "owns the database" in str(refusal.value.hint)
