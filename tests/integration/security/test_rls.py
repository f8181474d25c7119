"""Rows 38, 40, 41, 43 and 44 of the list of attacks: PostgreSQL itself keeps users apart."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from parley.core.ids import new_id
from parley.schemas.keys import NewKey
from tests.databases import DatabaseUrls, connected
from tests.factories import make_conversation, make_file, record
from tests.integration.security.catalogue import OF_NOBODY, faults
from tests.stores import patient_store

OWNER = "user_id = nullif(current_setting('app.user_id', true), '')"
NOTES = """
CREATE TABLE notes (user_id text, id int, PRIMARY KEY (user_id, id));
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes FORCE ROW LEVEL SECURITY;
"""
KEPT_NOTES = f"{NOTES} CREATE POLICY notes_owner ON notes USING ({OWNER}) WITH CHECK ({OWNER});"
WRONG = {
    "CREATE TABLE notes (word text)": "notes has no owner's column",
    "CREATE TABLE notes (user_id text)": "notes does not force its policies",
    NOTES: "notes has no owner's policy",
    f"{KEPT_NOTES} ALTER TABLE notes NO FORCE ROW LEVEL SECURITY": "notes does not force",
    f"{NOTES} CREATE POLICY p ON notes USING ({OWNER})": "notes has no owner's policy",
    f"{NOTES} CREATE POLICY p ON notes USING (true) WITH CHECK ({OWNER})": "no owner's policy",
    f"{NOTES} CREATE POLICY p ON notes USING ({OWNER} OR id = 1) WITH CHECK ({OWNER})": "notes has",
    f"{KEPT_NOTES} CREATE POLICY p ON notes FOR SELECT USING (true)": "that nobody knows: p",
    "CREATE POLICY p ON messages FOR SELECT USING (role = 'system')": "that nobody knows: p",
    "CREATE POLICY p ON users FOR UPDATE"
    " USING (email = nullif(current_setting('app.lookup', true), ''))": "that nobody knows: p",
    "ALTER TABLE users DISABLE ROW LEVEL SECURITY": "users does not force its policies",
    f"{KEPT_NOTES} CREATE UNIQUE INDEX one ON notes (id)": "one does not lead with the owner",
    "CREATE VIEW everything AS SELECT * FROM messages": "everything sees with its owner's eyes",
    "CREATE MATERIALIZED VIEW everything AS SELECT * FROM messages": "sees with its owner's eyes",
    "CREATE FUNCTION everything() RETURNS bigint LANGUAGE sql SECURITY DEFINER"
    " RETURN (SELECT count(*) FROM messages)": "everything runs with its owner's powers",
    "GRANT TRUNCATE ON messages TO {api}": "messages: {api} has",
    "GRANT SELECT ON messages TO PUBLIC": "messages: PUBLIC has",
    "GRANT UPDATE ON alembic_version TO {api}": "alembic_version: {api} has",
    "REVOKE DELETE ON turns FROM {api}": "turns: {api} has",
    f"{KEPT_NOTES} ALTER TABLE notes ADD COLUMN email text REFERENCES users (email)": (
        "notes_email_fkey does not lead with the owner"
    ),
}


@pytest.fixture
async def api_role(postgres: DatabaseUrls) -> str:
    async with connected(postgres.api) as api:
        return str(await api.fetchval("SELECT current_user"))


class TestTheCatalogue:
    async def test_every_table_is_a_users_or_known_to_be_nobodys(
        self, postgres: DatabaseUrls, api_role: str
    ):
        """With an owner's column, forced policies, keys that lead with it, and no way around."""
        async with connected(postgres.owner) as owner:
            assert [] == await faults(owner, api_role)

    @pytest.mark.parametrize(("statements", "told"), WRONG.items(), ids=range(len(WRONG)))
    async def test_what_is_wrong_is_found(
        self, postgres: DatabaseUrls, api_role: str, statements: str, told: str
    ):
        async with connected(postgres.owner) as owner:
            await owner.execute(statements.format(api=api_role))
            found = await faults(owner, api_role)

        assert told.format(api=api_role) in "\n".join(found)

    @pytest.mark.parametrize(
        "statements",
        [
            KEPT_NOTES,
            (
                "CREATE VIEW mine WITH (security_invoker) AS SELECT * FROM messages;"
                "REVOKE ALL ON mine FROM {api}"
            ),
        ],
    )
    async def test_what_is_right_is_let_be(
        self, postgres: DatabaseUrls, api_role: str, statements: str
    ):
        async with connected(postgres.owner) as owner:
            await owner.execute(statements.format(api=api_role))
            assert [] == await faults(owner, api_role)


@pytest.fixture
async def filled(postgres: DatabaseUrls, alice: str, bob: str) -> DatabaseUrls:
    """Alice and Bob have a row of their own in every table."""
    store = patient_store(postgres.api)
    for user_id, email in ((alice, "alice@example.com"), (bob, "bob@example.com")):
        async with store.begin(user_id) as tx:
            await tx.accounts.create(email, "hash")
            await tx.sessions.open(new_id(), f"token of {email}", 3600)
            await tx.keys.create(NewKey(new_id(), f"key of {email}", "prefix", "name", None))
        conversation = await make_conversation(store, user_id)
        file = await make_file(store, user_id)
        await record(store, user_id, conversation.id, attachments=[file])
    await store.close()
    return postgres


async def owned_tables(urls: DatabaseUrls) -> dict[str, str]:
    """Each table with its owner's column."""
    async with connected(urls.owner) as owner:
        rows = await owner.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
        )
    names = [row["tablename"] for row in rows if row["tablename"] not in OF_NOBODY]
    return {name: "id" if name == "users" else "user_id" for name in names}


@asynccontextmanager
async def acting_as(
    connection: asyncpg.Connection, user_id: str, name: str = "app.user_id"
) -> AsyncGenerator[None]:
    async with connection.transaction():
        await connection.execute("SELECT set_config($1, $2, true)", name, user_id)
        yield


class TestNobody:
    async def test_with_no_identity_sees_no_row(self, filled: DatabaseUrls):
        async with connected(filled.api) as api:
            for table in await owned_tables(filled):
                assert 0 == await api.fetchval(f"SELECT count(*) FROM {table}"), table  # noqa: S608

    @pytest.mark.parametrize("name", ["app.user_id", "app.lookup"])
    async def test_after_somebody_sees_no_row_and_gets_no_error(
        self, filled: DatabaseUrls, alice: str, name: str
    ):
        """What was set for a transaction is '' behind it, and not NULL."""
        async with connected(filled.api) as api:
            async with acting_as(api, alice, name):
                pass
            assert "" == await api.fetchval("SELECT current_setting($1, true)", name)
            for table in await owned_tables(filled):
                assert 0 == await api.fetchval(f"SELECT count(*) FROM {table}"), table  # noqa: S608

    async def test_of_the_empty_name_is_nobody(self, filled: DatabaseUrls):
        """Also where a row had no owner's name."""
        async with connected(filled.owner) as owner:
            await owner.execute("UPDATE users SET id = '', email = '' WHERE email LIKE 'bob%'")
        async with connected(filled.api) as api:
            for name in ("app.user_id", "app.lookup"):
                async with acting_as(api, "", name):
                    assert 0 == await api.fetchval("SELECT count(*) FROM users")


class TestAlice:
    async def test_sees_her_own_rows_alone_of_every_table(self, filled: DatabaseUrls, alice: str):
        async with connected(filled.api) as api:
            for table, owner in (await owned_tables(filled)).items():
                async with acting_as(api, alice):
                    rows = await api.fetch(f"SELECT {owner} AS owner FROM {table}")  # noqa: S608
                assert {alice} == {row["owner"] for row in rows}, table

    async def test_changes_and_deletes_nothing_of_bobs(
        self, filled: DatabaseUrls, alice: str, bob: str
    ):
        async with connected(filled.api) as api:
            for table, owner in (await owned_tables(filled)).items():
                where = f"WHERE {owner} = '{bob}'"
                async with acting_as(api, alice):
                    changed = await api.execute(f"UPDATE {table} SET {owner} = {owner} {where}")  # noqa: S608
                    deleted = await api.execute(f"DELETE FROM {table} {where}")  # noqa: S608
                assert ("UPDATE 0", "DELETE 0") == (changed, deleted), table

    async def test_gives_no_row_to_bob(self, filled: DatabaseUrls, alice: str, bob: str):
        """And takes none: a row is made for her or not at all."""
        async with connected(filled.api) as api:
            for table, owner in (await owned_tables(filled)).items():
                async with acting_as(api, alice):
                    (values,) = await api.fetch(f"SELECT * FROM {table} LIMIT 1")  # noqa: S608
                columns = ", ".join(f'"{name}"' for name in values.keys())  # noqa: SIM118 - a Record
                row = dict(values) | {owner: bob}
                marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
                for statement, given in (
                    (f"UPDATE {table} SET {owner} = $1", [bob]),  # noqa: S608
                    (f"INSERT INTO {table} ({columns}) VALUES ({marks})", [*row.values()]),  # noqa: S608
                ):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError) as refusal:
                        async with acting_as(api, alice):
                            await api.execute(statement, *given)
                    assert "42501" == refusal.value.sqlstate

    @pytest.mark.parametrize(
        ("table", "owner", "looked_up"),
        [
            ("users", "id", "bob@example.com"),
            ("refresh_tokens", "user_id", "token of bob@example.com"),
            ("api_keys", "user_id", "key of bob@example.com"),
        ],
    )
    async def test_looks_up_the_one_row_that_she_names_and_may_not_touch_it(
        self, filled: DatabaseUrls, bob: str, table: str, owner: str, looked_up: str
    ):
        async with connected(filled.api) as api, acting_as(api, looked_up, "app.lookup"):
            found = await api.fetch(f"SELECT {owner} AS owner FROM {table}")  # noqa: S608
            assert [bob] == [row["owner"] for row in found]
            changed = await api.execute(f"UPDATE {table} SET {owner} = {owner}")  # noqa: S608
            deleted = await api.execute(f"DELETE FROM {table}")  # noqa: S608
            assert ("UPDATE 0", "DELETE 0") == (changed, deleted)
            for other in (await owned_tables(filled)).keys() - {table}:
                assert 0 == await api.fetchval(f"SELECT count(*) FROM {other}"), other  # noqa: S608


class TestTheTablesOwner:
    async def test_without_bypassrls_sees_what_the_policies_show(
        self, filled: DatabaseUrls, alice: str
    ):
        """Row 38: only FORCE holds the owner of a table."""
        async with connected(filled.admin) as admin:
            plain = f"plain_{secrets.token_hex(4)}"
            await admin.execute(
                f"CREATE ROLE {plain}; GRANT USAGE, CREATE ON SCHEMA public TO {plain};"
                f"ALTER TABLE messages OWNER TO {plain}"
            )
            try:
                async with admin.transaction():
                    await admin.execute(f"SET LOCAL ROLE {plain}")
                    assert 0 == await admin.fetchval("SELECT count(*) FROM messages")
            finally:
                await admin.execute(f"DROP OWNED BY {plain}; DROP ROLE {plain}")
