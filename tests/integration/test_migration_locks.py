"""One migration at a time; what it waits for, and for how long; indexes that are not valid."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from parley.cli.doctor import Finding, examine
from parley.crud.ports import SCHEMA_REVISION
from tests.databases import DatabaseUrls, connected, until_one_waits
from tests.migrations import ALEMBIC_INI, NEXT, draft, started, the_recipe

WAITING = "Another process migrates this database: waiting for it.\n"
LAST_ASKED = """
    SELECT max(query_start) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'parley'
"""
INDEX = "ix_turns_worker_id"


@pytest.fixture
async def other(postgres: DatabaseUrls) -> AsyncGenerator[asyncpg.Connection]:
    """Another session."""
    async with connected(postgres.owner) as connection:
        yield connection


def config_of(database: DatabaseUrls) -> Config:
    config = Config(ALEMBIC_INI)
    config.attributes["url"] = database.owner
    return config


async def down_to(revision: str, database: DatabaseUrls) -> None:
    await asyncio.to_thread(command.downgrade, config_of(database), revision)


async def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    with process:
        said = await asyncio.to_thread(process.communicate)
    return (process.returncode, *said)


async def revision_of(other: asyncpg.Connection) -> str:
    return await other.fetchval("SELECT version_num FROM alembic_version")


async def is_valid(other: asyncpg.Connection) -> bool | None:
    query = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)"
    return await other.fetchval(query, INDEX)


@asynccontextmanager
async def written(database: DatabaseUrls) -> AsyncGenerator[asyncpg.Connection]:
    """A transaction that has written into `turns`: an index is built when it has ended."""
    async with connected(database.owner) as writer:
        async with writer.transaction():
            await writer.execute("DELETE FROM turns WHERE false")
            yield writer


class TestOneAtATime:
    async def test_a_second_one_waits_for_the_first_and_says_so(
        self, postgres: DatabaseUrls, other: asyncpg.Connection
    ):
        await down_to("0005", postgres)
        await other.execute("SELECT pg_advisory_lock(x'7061726C6579'::bigint)")
        second = started(postgres.owner)
        assert WAITING == second.stdout.readline()
        assert "0005" == await revision_of(other)

        await other.execute("SELECT pg_advisory_unlock(x'7061726C6579'::bigint)")
        assert 0 == (await ended(second))[0]
        assert SCHEMA_REVISION == await revision_of(other)

    async def test_one_that_waits_does_not_keep_an_index_from_being_built(
        self, postgres: DatabaseUrls, other: asyncpg.Connection, tmp_path: Path
    ):
        """Building it waits for every snapshot that is older; a wait for a lock has one."""
        config = draft(tmp_path, postgres.owner, the_recipe())
        async with written(postgres):
            first = asyncio.create_task(asyncio.to_thread(command.upgrade, config, "head"))
            await until_one_waits(postgres)
            second = started(postgres.owner)
            assert WAITING == second.stdout.readline()
            asked_at = await other.fetchval(LAST_ASKED)
            while asked_at == await other.fetchval(LAST_ASKED):
                await asyncio.sleep(0.01)
        await first

        assert 0 == (await ended(second))[0]
        assert (NEXT, True) == (await revision_of(other), await is_valid(other))


class TestLimits:
    async def test_who_holds_a_table_is_not_waited_for_for_long_and_it_is_said_what_to_do(
        self, postgres: DatabaseUrls, other: asyncpg.Connection
    ):
        await down_to("0002", postgres)
        async with other.transaction():
            await other.execute("LOCK TABLE messages IN ACCESS SHARE MODE")
            code, said, told = await ended(started(postgres.owner))

        assert (1, ["0003", "0004"]) == (code, [line[8:12] for line in said.splitlines()])
        assert "0004" == await revision_of(other)
        assert told.startswith("Another session holds a table, and the next step gave up")
        assert "as the last line that says Applied left it. Run it again" in told
        assert "pg_stat_activity" in told
        assert 2 == len(told.splitlines())
        assert 0 == (await ended(started(postgres.owner)))[0]
        assert SCHEMA_REVISION == await revision_of(other)


class TestAnIndexOnATableWithRows:
    """As CONTRIBUTING.md has it."""

    @pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
    def test_comes_and_goes(self, backend: str, request, tmp_path: Path):
        url = (
            request.getfixturevalue("sqlite_url")
            if backend == "sqlite"
            else request.getfixturevalue("postgres").owner
        )
        config = draft(tmp_path, url, the_recipe())
        for _ in range(2):
            command.upgrade(config, "head")
            with pytest.raises(CommandError, match=r"remove_index.*ix_turns_worker_id"):
                command.check(config)
            command.downgrade(config, SCHEMA_REVISION)
            command.check(draft(tmp_path / "without", url))
            shutil.rmtree(tmp_path / "without")

    async def test_that_was_interrupted_is_built_by_the_next_run(
        self, postgres: DatabaseUrls, other: asyncpg.Connection, tmp_path: Path
    ):
        config = draft(tmp_path, postgres.owner, the_recipe())
        async with written(postgres):
            building = asyncio.create_task(asyncio.to_thread(command.upgrade, config, "head"))
            await until_one_waits(postgres)
            await other.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                " WHERE query LIKE 'CREATE INDEX CONCURRENTLY%'"
            )
            with pytest.raises(DBAPIError):
                await building
        assert (SCHEMA_REVISION, False) == (await revision_of(other), await is_valid(other))

        await asyncio.to_thread(command.upgrade, config, "head")

        assert (NEXT, True) == (await revision_of(other), await is_valid(other))

    async def test_goes_on_being_built_for_one_that_was_killed_and_the_next_run_waits(
        self, postgres: DatabaseUrls, other: asyncpg.Connection, tmp_path: Path
    ):
        config = draft(tmp_path, postgres.owner, the_recipe())
        upgrade = ("-m", "alembic", "--config", str(config.config_file_name), "upgrade", "head")
        async with written(postgres):
            killed = started(postgres.owner, *upgrade)
            await until_one_waits(postgres)
            killed.kill()
            await ended(killed)
            again = started(postgres.owner, *upgrade)
            assert WAITING == again.stdout.readline()

        code, said, told = await ended(again)
        assert (0, f"Applied {NEXT}: One of the tests.\n") == (code, said), told
        assert (NEXT, True) == (await revision_of(other), await is_valid(other))


class TestAnIndexThatIsNotValid:
    @pytest.fixture
    async def invalid(self, other: asyncpg.Connection) -> str:
        """As a CREATE INDEX CONCURRENTLY leaves it that finds a row twice."""
        await other.execute(
            "INSERT INTO workers (id, lease_until) SELECT gen_random_uuid(), now()"
            " FROM generate_series(1, 2)"
        )
        with pytest.raises(asyncpg.UniqueViolationError):
            await other.execute('CREATE UNIQUE INDEX CONCURRENTLY "A b" ON workers (cancels)')
        return 'REINDEX INDEX CONCURRENTLY "A b"'

    async def indexes(
        self, database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
    ) -> list[Finding]:
        monkeypatch.setenv("DATABASE_URL", database.api)
        monkeypatch.setenv("DATABASE_TIMEOUT_SECONDS", "30")
        return [finding for finding in await examine() if finding.name == "indexes"]

    async def test_is_named_with_what_to_do_which_mends_it(
        self,
        postgres: DatabaseUrls,
        other: asyncpg.Connection,
        invalid: str,
        monkeypatch: pytest.MonkeyPatch,
    ):
        code, said, told = await ended(started(postgres.owner))
        (found,) = await self.indexes(postgres, monkeypatch)

        assert (1, "") == (code, said)
        assert (False, told.strip()) == (found.ok, found.detail)
        assert told.startswith("the index A b is not valid")
        assert told.strip().endswith(invalid)

        await other.execute("DELETE FROM workers")
        await other.execute(invalid)
        assert (0, "", "") == await ended(started(postgres.owner))
        assert [Finding("indexes", ok=True, detail="all are valid")] == await self.indexes(
            postgres, monkeypatch
        )

    async def test_that_was_to_take_anothers_place_is_dropped(
        self,
        postgres: DatabaseUrls,
        other: asyncpg.Connection,
        invalid: str,
        monkeypatch: pytest.MonkeyPatch,
    ):
        """Mending failed as well, and has left a second one."""
        with pytest.raises(asyncpg.UniqueViolationError):
            await other.execute(invalid)

        both = await self.indexes(postgres, monkeypatch)

        drop = 'DROP INDEX CONCURRENTLY "A b_ccnew"'
        assert [invalid, drop] == [finding.detail.split("owner: ")[1] for finding in both]
        await other.execute(drop)
        assert 1 == len(await self.indexes(postgres, monkeypatch))
