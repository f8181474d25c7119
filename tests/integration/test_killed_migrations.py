"""`parley migrate` killed at any step, and run again."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from httpx import ASGITransport, AsyncClient

from parley.core.settings import Settings
from parley.crud.ports import SCHEMA_REVISION
from parley.main import create_app
from parley.models import Base
from tests.conftest import SECRET
from tests.databases import Databases, DatabaseUrls, connected
from tests.migrations import catalogue_of, sqlite_catalogue_of, started

MORTAL = Path(__file__).with_name("mortal_migrate.py")
NONE = "nothing"
WAITING = "Another process migrates this database: waiting for it.\n"
# Every command that changes the schema comes by here, with the revision that its transaction sees.
# What is noted is gone with the transaction, so that a step counts its commands anew.
HOLD = """
    CREATE SCHEMA held;
    CREATE TABLE held.command (revision text);
    CREATE TABLE held.here (revision text, number int);
    CREATE FUNCTION held.hold() RETURNS event_trigger LANGUAGE plpgsql
      SECURITY DEFINER SET lock_timeout = 0 AS $$
    DECLARE
      seen text;
    BEGIN
      IF to_regclass('public.alembic_version') IS NOT NULL THEN
        SELECT version_num INTO seen FROM public.alembic_version;
      END IF;
      seen := coalesce(seen, 'nothing');
      INSERT INTO held.command VALUES (seen);
      IF EXISTS (SELECT FROM held.here WHERE revision = seen
        AND number = (SELECT count(*) FROM held.command c WHERE c.revision = seen)) THEN
        PERFORM pg_advisory_xact_lock(1);
      END IF;
    END $$;
    CREATE EVENT TRIGGER hold ON ddl_command_start EXECUTE FUNCTION held.hold();
"""


WAITS = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Point(NamedTuple):
    """Before which command it is killed, of those that see this revision."""

    revision: str
    number: int


def points(commands: Counter[str]) -> list[Point]:
    """
    Before each step's commit and behind it, in the next one.

    The first two commands that see a revision are the last of its own step: they keep the version
    table.
    """
    return [
        Point(revision, number)
        for revision, count in sorted(
            commands.items(), key=lambda item: revisions().index(item[0])
        )
        for number in (1, count if revision == NONE else 3)
    ]


def revisions() -> list[str]:
    return [NONE, *(f"{number:04}" for number in range(1, int(SCHEMA_REVISION) + 1))]


async def make_empty(database: DatabaseUrls) -> None:
    async with connected(database.admin) as admin:
        await admin.execute(f"DROP TABLE alembic_version, {', '.join(Base.metadata.tables)}")
        await admin.execute(HOLD)


@asynccontextmanager
async def held_at(point: Point, database: DatabaseUrls) -> AsyncGenerator[None]:
    """Kills `parley migrate` there; what the server does for it is held until the context is left."""
    async with connected(database.admin) as admin:
        await admin.execute("INSERT INTO held.here VALUES ($1, $2)", *point)
        await admin.execute("SELECT pg_advisory_lock(1)")
        with started(database.owner) as migrate:
            while not await admin.fetchval(WAITS):
                assert migrate.poll() is None, (point, migrate.communicate())
                await asyncio.sleep(0.01)
            migrate.kill()
        assert -signal.SIGKILL == migrate.returncode
        await admin.execute("DELETE FROM held.here")
        yield


class TestPostgres:
    @pytest.fixture
    async def straight(self, databases: Databases) -> AsyncGenerator[DatabaseUrls]:
        database = await databases.clone()
        await make_empty(database)
        with started(database.owner) as migrate:
            assert "" == migrate.communicate()[1]
        yield database
        await databases.drop(database)

    @pytest.mark.timeout(900)  # two processes a revision, which a busy machine is slow to start
    async def test_it_arrives_when_it_is_run_again_wherever_it_was_killed(
        self, straight: DatabaseUrls, postgres: DatabaseUrls
    ):
        await make_empty(postgres)
        async with connected(straight.admin) as admin:
            query = "SELECT revision, count(*) FROM held.command GROUP BY 1"
            commands = Counter(dict(await admin.fetch(query)))

        reached = []
        for point in points(commands):
            async with held_at(point, postgres):
                reached.append(await revision_of(postgres))
        with started(postgres.owner) as migrate:
            said = migrate.communicate()

        assert revisions() == list(dict.fromkeys(reached))
        assert (0, "") == (migrate.returncode, said[1])
        assert await catalogue_of(straight) == await catalogue_of(postgres)
        assert (0, True) == await left_behind(postgres)

    async def test_it_waits_for_what_the_server_still_does_for_the_one_that_was_killed(
        self, postgres: DatabaseUrls
    ):
        await make_empty(postgres)
        async with held_at(Point("0002", 4), postgres):
            migrate = started(postgres.owner)
            assert migrate.stdout.readline() == WAITING
            assert "0002" == await revision_of(postgres)

        with migrate:
            said = migrate.communicate()
        assert (0, "") == (migrate.returncode, said[1])
        assert said[0].startswith("Applied 0003")

    async def test_the_api_is_not_ready_on_what_it_left_and_then_is(self, postgres: DatabaseUrls):
        await make_empty(postgres)
        settings = Settings(
            auth_secret=SECRET, database_url=postgres.api, database_timeout_seconds=30
        )
        app = create_app(settings)
        async with (
            app.router.lifespan_context(app),
            AsyncClient(transport=ASGITransport(app), base_url="http://test") as client,
        ):
            async with held_at(Point("0005", 3), postgres):
                meanwhile = await client.get("/health/ready")
            with started(postgres.owner) as migrate:
                said = migrate.communicate()
            then = await client.get("/health/ready")

        assert (503, "0005") == (meanwhile.status_code, meanwhile.json()["schema_revision"])
        assert (0, "") == (migrate.returncode, said[1])
        assert (200, SCHEMA_REVISION) == (then.status_code, then.json()["schema_revision"])


class TestSqlite:
    """All steps are one transaction, so that a kill leaves nothing of any."""

    def test_it_arrives_when_it_is_run_again_wherever_it_was_killed(
        self, sqlite_url: str, tmp_path: Path
    ):
        url = f"sqlite:///{tmp_path}/new.db"
        for point in (
            "CREATE TABLE conversations",
            f"alembic_version SET version_num='{SCHEMA_REVISION}'",
            "PRAGMA foreign_key_check",
            "COMMIT",
        ):
            with started(url, str(MORTAL), DIE_AT=point) as migrate:
                said = migrate.communicate()
            assert (-signal.SIGKILL, "") == (migrate.returncode, said[0]), (point, said)
            assert [] == sqlite_catalogue_of(url)

        with started(url) as migrate:
            said = migrate.communicate()

        assert (0, "") == (migrate.returncode, said[1])
        assert sqlite_catalogue_of(sqlite_url) == sqlite_catalogue_of(url)


async def revision_of(database: DatabaseUrls) -> str:
    """As others see it: what is committed."""
    async with connected(database.admin) as admin:
        if not await admin.fetchval("SELECT to_regclass('alembic_version')"):
            return NONE
        return await admin.fetchval("SELECT version_num FROM alembic_version") or NONE


async def left_behind(database: DatabaseUrls) -> tuple[int, bool]:
    """Indexes that are not valid, and whether the lock is free."""
    async with connected(database.admin) as admin:
        return (
            await admin.fetchval("SELECT count(*) FROM pg_index WHERE NOT indisvalid"),
            await admin.fetchval("SELECT pg_try_advisory_lock(x'7061726C6579'::bigint)"),
        )
