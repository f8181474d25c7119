"""
Each of the two walls between users, with the other one taken away.

- The queries' filters are cut out of the SQL: PostgreSQL's policies hold.
- The policies do not bind whoever asks: the filters hold.
- Both are away, as on SQLite without filters: Alice gets at Bob's rows. So the cutting does cut, and
  neither test above passes for want of a danger.
"""

import re
from collections.abc import AsyncGenerator

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from parley.core.database import create_engine
from parley.core.errors import AppError
from parley.crud.ports import Store
from parley.crud.sql.store import SqlStore
from parley.models import Base
from tests.databases import DatabaseUrls
from tests.integration.security.attempts import (
    ALICES_EMAIL,
    ATTEMPTS,
    CANARY,
    Attempt,
    Bobs,
    give_bob,
    methods,
)
from tests.stores import TIMEOUT_SECONDS

# As it goes over the wire: `$1::VARCHAR` or `?`.
FILTER = re.compile(r"\b(?:\w+\.user_id|users\.id) = (\$\d+(?:::\w+)?|\?)")
OWNED = [table.name for table in Base.metadata.sorted_tables if "user_id" in table.columns] + [
    "users"
]


class Statements:
    """What an engine sends about the tables of users; without its filters once they are `cut`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.cut = False
        self.unfiltered: list[str] = []
        event.listen(engine.sync_engine, "before_cursor_execute", self._before, retval=True)

    def _before(
        self, _: Connection, cursor: object, statement: str, parameters: object, *__: object
    ) -> tuple[str, object]:
        without, filters = FILTER.subn(r"\1 IS NOT NULL", statement)
        is_owned = any(re.search(rf"\b{table}\b", statement) for table in OWNED)
        if is_owned and not filters and not statement.lstrip().startswith("INSERT"):
            self.unfiltered.append(statement)
        return (without if self.cut else statement), parameters


class Place:
    """A store with what is Bob's in it, and another way in that sees all that is his."""

    def __init__(self, store: SqlStore, statements: Statements, everything: AsyncEngine) -> None:
        self.store = store
        self.statements = statements
        self._everything = everything

    async def rows(self, user_id: str) -> dict[str, list[object]]:
        async with self._everything.connect() as connection:
            return {
                table: [
                    tuple(row)
                    for row in await connection.execute(
                        text(
                            f"SELECT * FROM {table} WHERE"  # noqa: S608 - our own tables
                            f" {'id' if table == 'users' else 'user_id'} = :user_id ORDER BY 1, 2"
                        ),
                        {"user_id": user_id},
                    )
                ]
                for table in OWNED
            }


async def place(url: str, everything_url: str) -> AsyncGenerator[Place]:
    engine, everything = (
        create_engine(each, timeout_seconds=TIMEOUT_SECONDS) for each in (url, everything_url)
    )
    store = SqlStore(engine, timeout_seconds=TIMEOUT_SECONDS)
    yield Place(store, Statements(engine), everything)
    await store.close()
    await everything.dispose()


@pytest.fixture
async def policies_alone(postgres: DatabaseUrls) -> AsyncGenerator[Place]:
    async for made in place(postgres.api, postgres.owner):
        yield made


@pytest.fixture
async def filters_alone(postgres: DatabaseUrls) -> AsyncGenerator[Place]:
    """As the role that the policies do not bind."""
    async for made in place(postgres.owner, postgres.owner):
        yield made


@pytest.fixture
async def neither(sqlite_url: str) -> AsyncGenerator[Place]:
    async for made in place(sqlite_url, sqlite_url):
        yield made


async def outcome(store: SqlStore, alice: str, attempt: Attempt, bobs: Bobs) -> object:
    """What is returned, or the type of the error."""
    if attempt.is_registered:
        async with store.begin(alice) as tx:
            await tx.accounts.create(ALICES_EMAIL, "hash")
    try:
        async with store.begin(alice) as tx:
            return await attempt.call(tx, bobs)
    except AppError as error:
        return type(error)


def test_every_method_of_the_ports_is_tried():
    """Whoever adds a method adds an attempt."""
    assert methods() == ATTEMPTS.keys()


def test_no_other_door_leads_to_what_is_a_users():
    """`resolve` says whose a credential is; the rest knows of no user."""
    doors = {name for name in vars(Store) if not name.startswith("_")}
    of_nobody = {
        *("ping", "pool", "revision", "clock", "faults", "index_faults"),
        *("renew", "cancels", "lost", "forget", "forget_dead", "close"),
    }

    assert {"begin", "resolve"} == doors - of_nobody


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
class TestAlice:
    async def test_with_no_filter_the_policies_keep_her_out(
        self, policies_alone: Place, alice: str, bob: str, attempt: Attempt
    ):
        bobs = await give_bob(policies_alone.store, bob)
        before = await policies_alone.rows(bob)
        policies_alone.statements.cut = True

        got = await outcome(policies_alone.store, alice, attempt, bobs)

        assert attempt.answer == got
        assert CANARY not in repr(got)
        assert before == await policies_alone.rows(bob)

    async def test_with_no_policy_the_filters_keep_her_out(
        self, filters_alone: Place, alice: str, bob: str, attempt: Attempt
    ):
        bobs = await give_bob(filters_alone.store, bob)
        before = await filters_alone.rows(bob)
        filters_alone.statements.unfiltered.clear()

        got = await outcome(filters_alone.store, alice, attempt, bobs)

        assert attempt.answer == got
        assert CANARY not in repr(got)
        assert before == await filters_alone.rows(bob)
        assert [] == filters_alone.statements.unfiltered

    async def test_with_neither_she_gets_at_what_is_bobs(
        self, neither: Place, alice: str, bob: str, attempt: Attempt
    ):
        bobs = await give_bob(neither.store, bob)
        before = await neither.rows(bob)
        neither.statements.cut = True
        try:
            got = await outcome(neither.store, alice, attempt, bobs)
        except Exception as reached:  # noqa: BLE001 - what Bob's rows made of it
            got = reached

        held = attempt.answer == got and before == await neither.rows(bob)
        assert attempt.filters is not held
