"""Migrations up, down and up again; drafts; and what a batch change does to the rows that are there."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TypeVar

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from parley.cli.migrate import ALEMBIC_INI
from parley.core.database import create_engine
from parley.crud.ports import SCHEMA_REVISION
from parley.crud.sql.store import SqlStore
from tests.databases import DatabaseUrls, connected
from tests.factories import make_conversation, record
from tests.migrations import NEXT_BUT_ONE, draft, migration, started
from tests.stores import patient_store

T = TypeVar("T")
A_BATCH_CHANGE, BREAKS_A_REFERENCE, FAILS = (
    migration(f"def upgrade() -> None:\n    {body}\n")
    for body in (
        """with op.batch_alter_table("conversations") as batch:
        batch.alter_column("title", existing_type=sa.Text(), nullable=True)""",
        'op.execute("DELETE FROM turns")',
        'op.execute("SELECT 1 / 0")',
    )
)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """As the owner, at the newest revision."""
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite_url")
    return request.getfixturevalue("postgres").owner


@pytest.fixture
def config(url: str) -> Config:
    config = Config(ALEMBIC_INI, stdout=StringIO())
    config.attributes["url"] = url
    return config


def said(config: Config) -> str:
    return config.stdout.getvalue()


@pytest.fixture
def drafts(url: str, tmp_path: Path) -> Callable[[str], Config]:
    """A copy of the migrations with one more."""
    return partial(draft, tmp_path, url)


def on_store(url: str, use: Callable[[SqlStore], Awaitable[T]]) -> T:
    async def run() -> T:
        store = patient_store(url)
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(run())


class TestRoundTrip:
    def test_up_down_and_up_again_is_the_same_schema(self, config: Config, url: str):
        command.check(config)
        command.downgrade(config, "base")
        assert None is on_store(url, lambda store: store.revision())
        command.upgrade(config, "head")

        command.check(config)
        assert SCHEMA_REVISION == on_store(url, lambda store: store.revision())

    def test_doing_it_again_does_nothing(self, config: Config):
        command.downgrade(config, "base")
        for _ in range(2):
            command.upgrade(config, "head")

        assert 1 == said(config).count("Applied 0001")

    def test_a_later_releases_schema_is_left_as_it_is(self, config: Config, url: str):
        """As when a release is rolled back: its migration job must not keep the API from starting."""

        async def put(revision: str) -> None:
            engine = create_engine(url)
            async with engine.begin() as connection:
                await connection.exec_driver_sql(
                    f"UPDATE alembic_version SET version_num = '{revision}'"  # noqa: S608
                )
            await engine.dispose()

        asyncio.run(put("9999"))
        command.upgrade(config, "head")
        assert "The schema is 9999, later than this release's" in said(config)

        asyncio.run(put("0000"))
        with started(url) as migrate:
            applied, told = migrate.communicate()
        assert (1, "") == (migrate.returncode, applied)
        assert "Can't locate revision identified by '0000'" in told
        assert "Traceback" not in told

    def test_two_at_once_both_arrive(self, config: Config, url: str):
        command.downgrade(config, "base")
        migrate = [sys.executable, "-m", "parley.cli", "migrate"]
        both = [
            subprocess.Popen(migrate, env={"DATABASE_URL": url}, stderr=subprocess.PIPE)
            for _ in range(2)
        ]

        assert [0, 0] == [process.wait(60) for process in both], [p.communicate() for p in both]
        command.check(config)
        for process in both:
            process.stderr.close()


class TestDraft:
    def test_a_change_of_a_model_is_drafted_with_the_next_number(
        self, drafts, tmp_path: Path, url: str
    ):
        config = drafts(A_BATCH_CHANGE)
        command.upgrade(config, "head")

        drafted = command.revision(config, "title is required", autogenerate=True)

        text = Path(drafted.path).read_text()
        assert f"{NEXT_BUT_ONE}_title_is_required.py" == Path(drafted.path).name
        assert "Locks: " in text
        assert "Undo: " in text
        assert "SET LOCAL lock_timeout" in text
        assert "nullable=False" in text
        command.upgrade(config, "head")
        command.check(config)


class TestVersionTable:
    @pytest.mark.parametrize("url", ["postgres"], indirect=True)
    def test_nobody_else_writes_to_it_from_the_step_that_shows_its_revision(
        self, drafts, url: str, postgres: DatabaseUrls
    ):
        """Not only behind the last one: here it fails, and the API sees the revision before it."""

        async def may_write() -> bool:
            async with connected(postgres.api) as api:
                return await api.fetchval(
                    "SELECT has_table_privilege(current_user, 'alembic_version', 'INSERT')"
                )

        async def give() -> None:
            async with connected(postgres.api) as api:
                role = await api.fetchval("SELECT current_user")
            async with connected(postgres.owner) as owner:
                await owner.execute(f"GRANT ALL ON alembic_version TO {role}")

        config = drafts(FAILS)
        command.downgrade(config, "base")
        asyncio.run(give())
        with pytest.raises(DBAPIError, match="division by zero"):
            command.upgrade(config, "head")

        assert SCHEMA_REVISION == on_store(url, lambda store: store.revision())
        assert not asyncio.run(may_write())


class TestFilledDatabase:
    @pytest.fixture
    def filled(self, sqlite_url: str, alice: str) -> Path:
        async def fill(store: SqlStore) -> None:
            conversation = await make_conversation(store, alice)
            await record(store, alice, conversation.id)

        on_store(sqlite_url, fill)
        return Path(sqlite_url.removeprefix("sqlite:///"))

    @pytest.mark.parametrize("url", ["sqlite"], indirect=True)
    def test_a_batch_change_keeps_the_rows_that_refer_to_the_table(self, filled: Path, drafts):
        command.upgrade(drafts(A_BATCH_CHANGE), "head")

        with sqlite3.connect(filled) as database:
            counts = [
                database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
                for table in ("conversations", "turns", "messages")
            ]
        database.close()
        assert [1, 1, 2] == counts

    @pytest.mark.parametrize("url", ["sqlite"], indirect=True)
    def test_one_that_leaves_rows_without_their_parent_changes_nothing(self, filled: Path, drafts):
        with pytest.raises(CommandError, match="nothing was changed"):
            command.upgrade(drafts(BREAKS_A_REFERENCE), "head")

        with sqlite3.connect(filled) as database:
            assert 1 == database.execute("SELECT count(*) FROM turns").fetchone()[0]
            assert (SCHEMA_REVISION,) == database.execute(
                "SELECT * FROM alembic_version"
            ).fetchone()
        database.close()
