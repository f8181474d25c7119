import traceback
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from parley.core.database import (
    POOL_WAIT_SECONDS,
    create_engine,
    engine_url,
    for_reading,
    is_of_neon_pooler,
)

CANARY = "canary-4711"
NEON = f"postgres://ann:{CANARY}@ep-x.neon.tech/name?sslmode=require&channel_binding=require"


class Reached(Exception):
    """Where a connection would have been opened."""


async def arguments(engine: AsyncEngine) -> dict[str, Any]:
    """What the driver would be called with."""
    seen: dict[str, Any] = {}

    @event.listens_for(engine.sync_engine, "do_connect")
    def stop(_dialect: object, _record: object, _args: object, kwargs: dict[str, Any]) -> None:
        seen.update(kwargs)
        raise Reached

    with pytest.raises(Reached):
        async with engine.connect():
            pass
    return seen


class TestEngineUrl:
    @pytest.mark.parametrize(
        ("pasted", "expected"),
        [
            ("postgres://ann:pw@host/name", "postgresql+asyncpg://ann:pw@host/name"),
            ("postgresql://ann:pw@host:5433/name", "postgresql+asyncpg://ann:pw@host:5433/name"),
            ("postgresql+asyncpg://ann@host/name", "postgresql+asyncpg://ann@host/name"),
            ("postgresql://ann:p%40s%2Fs@[::1]/name", "postgresql+asyncpg://ann:p%40s%2Fs@[::1]/name"),
            ("sqlite:///var/parley.db", "sqlite+aiosqlite:///var/parley.db"),
            ("sqlite:////srv/parley.db", "sqlite+aiosqlite:////srv/parley.db"),
            ("sqlite+aiosqlite:///parley.db", "sqlite+aiosqlite:///parley.db"),
        ],
    )  # fmt: skip
    def test_a_pasted_url_names_its_driver(self, pasted: str, expected: str):
        assert expected == engine_url(pasted).render_as_string(hide_password=False)

    def test_a_password_is_as_it_was_before_it_was_quoted(self):
        assert "p@s/s:%?#" == engine_url("postgres://ann:p%40s%2Fs%3A%25%3F%23@host/x").password

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "://",
            CANARY,
            f"ann:{CANARY}@host/name",
            f"mysql://ann:{CANARY}@host/name",
            f"http://ann:{CANARY}@host/name",
            f"postgresql+psycopg://ann:{CANARY}@host/name",
            f"POSTGRESQL://ann:{CANARY}@host/name",
            f" postgresql://ann:{CANARY}@host/name",
            "sqlite+pysqlite:///parley.db",
            "file:///parley.db",
        ],
    )
    def test_another_scheme_is_refused(self, url: str):
        with pytest.raises(ValueError, match=r"^must start with postgresql:// or sqlite:///$"):
            engine_url(url)

    @pytest.mark.parametrize("url", ["postgresql", "sqlite", "postgres"])
    def test_a_scheme_alone_is_refused(self, url: str):
        with pytest.raises(ValueError, match=r"^must look like postgresql://"):
            engine_url(url)

    @pytest.mark.parametrize("port", ["port", "54x32", "", " ", "5432,5433", "0x1538", "5 432"])
    def test_a_port_that_is_no_number_is_refused_without_the_password(self, port: str):
        with pytest.raises(ValueError, match=r"^must look like") as caught:
            engine_url(f"postgresql://ann:{CANARY}@host:{port}/name")

        assert CANARY not in "".join(traceback.format_exception(caught.value))

    @pytest.mark.parametrize("port", ["65536", "99999", "-5432"])
    def test_a_port_that_there_is_not_is_refused(self, port: str):
        """The driver finds out only when it connects, with an OverflowError: a 500."""
        with pytest.raises(ValueError, match=r"^must "):
            engine_url(f"postgresql://ann:{CANARY}@host:{port}/name")

    @pytest.mark.parametrize(
        "url", ["sqlite://parley.db", f"sqlite://ann:{CANARY}@host/parley.db"]
    )
    def test_sqlite_has_no_host(self, url: str):
        """Two slashes for three are easily written, and would be a stack trace at the start."""
        with pytest.raises(ValueError, match=r"^must "):
            engine_url(url)

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
    def test_a_database_in_memory_is_refused(self, url: str):
        """No migration could reach it: each engine would have its own."""
        with pytest.raises(ValueError, match=r"^must "):
            engine_url(url)

    def test_a_password_with_a_bare_at_sign_is_refused(self):
        """What follows the sign would be taken for the host, and shown as one."""
        with pytest.raises(ValueError, match=r"^must ") as caught:
            engine_url(f"postgresql://ann:pass@{CANARY}@host/name")

        assert CANARY not in str(caught.value)

    @pytest.mark.parametrize("mode", ["", "&sslmode=require", "&sslmode=verify-ca"])
    def test_the_systems_cas_are_for_verifying_all_of_it(self, mode: str):
        """As libpq has it: who names CAs does not want an unverified server."""
        with pytest.raises(ValueError, match="sslmode=verify-full beside sslrootcert=system"):
            engine_url(f"postgresql://ann:{CANARY}@host/name?sslrootcert=system{mode}")

    @pytest.mark.parametrize(
        "query",
        ["pgbouncer=true", "sslmode=always", "sslmode=verify-full&sslrootcert=/etc/passwd"],
    )
    def test_what_the_driver_does_not_take_is_refused(self, query: str):
        """The driver finds out only when it connects, with a TypeError or the like: a 500."""
        with pytest.raises(ValueError, match=r"^must "):
            engine_url(f"postgresql://ann:{CANARY}@host/name?{query}")

    def test_a_refusal_is_one_line_whatever_the_url_has(self):
        with pytest.raises(ValueError, match=r"^must ") as caught:
            engine_url("postgresql://ann@host/name?%0AAUTH_SECRET%3A%20x=1")

        assert 1 == len(str(caught.value).splitlines())

    async def test_a_server_behind_a_socket_is_named_by_its_folder(self):
        """As libpq has it, and as the pages of hosted PostgreSQL tell people to paste it."""
        passed = await arguments(create_engine("postgresql://ann@/name?host=/var/run/postgresql"))

        assert ("/var/run/postgresql", "name") == (passed["host"], passed["database"])

    @pytest.mark.parametrize(
        ("host", "expected"),
        [
            ("ep-quiet-lab-123456-pooler.eu-central-1.aws.neon.tech", True),
            ("ep-quiet-lab-123456-pooler.c-2.eu-central-1.aws.neon.tech:5432", True),
            ("ep-quiet-lab-123456.eu-central-1.aws.neon.tech", False),
            ("db.ep-x-pooler.example.com", None),
            ("pooler", None),
        ],
    )
    def test_neons_pooler_is_known_by_its_name(self, host: str, *, expected: bool | None):
        assert expected is is_of_neon_pooler(engine_url(f"postgresql://ann@{host}/name"))

    @pytest.mark.parametrize("show", [str, repr])
    def test_a_url_shows_no_password(self, show: Callable[[object], str]):
        assert CANARY not in show(engine_url(NEON))


class TestPostgres:
    def test_nothing_is_opened_yet(self):
        assert 0 == create_engine(NEON).pool.checkedin()

    def test_libpqs_words_are_not_in_the_url(self):
        shown = create_engine(NEON).url.render_as_string(hide_password=False)

        assert f"postgresql+asyncpg://ann:{CANARY}@ep-x.neon.tech/name" == shown

    async def test_the_driver_gets_them_as_it_knows_them(self):
        passed = await arguments(create_engine(NEON))

        assert "require" == passed["ssl"]
        assert {"sslmode", "channel_binding"}.isdisjoint(passed)
        assert {"sslmode", "channel_binding"}.isdisjoint(passed["server_settings"])

    async def test_the_systems_cas_verify_the_server_and_its_name(self):
        """In asyncpg's words: its own `verify-full` reads a CA from a file in one's home alone."""
        url = "postgresql://ann@host/name?sslmode=verify-full&sslrootcert=system"

        passed = await arguments(create_engine(url))

        assert passed["ssl"] is True
        assert {"sslmode", "sslrootcert"}.isdisjoint(passed)

    async def test_without_sslmode_the_driver_decides(self):
        assert "ssl" not in await arguments(create_engine("postgresql://ann@host/name"))

    async def test_every_wait_is_bounded(self):
        passed = await arguments(create_engine("postgresql://host/name", timeout_seconds=1.5))

        assert (1.5, 1.5) == (passed["timeout"], passed["command_timeout"])
        assert {
            "application_name": "parley",
            "statement_timeout": "1200",
            "lock_timeout": "1200",
            "idle_in_transaction_session_timeout": "1200",
        } == passed["server_settings"]

    async def test_a_transaction_pooler_is_asked_for_nothing_that_lasts_longer(self):
        """It refuses start-up parameters that it does not know, such as the time limits."""
        passed = await arguments(create_engine(NEON, pooler="transaction"))

        assert {"application_name": "parley"} == passed["server_settings"]
        assert (0, 0) == (passed["statement_cache_size"], passed["prepared_statement_cache_size"])

    @pytest.mark.parametrize(("timeout_seconds", "wait"), [(0.5, 0.5), (2, 2), (30, 2)])
    def test_the_pool_is_as_wide_as_told_and_waits_two_seconds_at_most(
        self, timeout_seconds: float, wait: float, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("parley.core.database.POOL_WAIT_SECONDS", POOL_WAIT_SECONDS)
        engine = create_engine(NEON, pool_size=7, pool_overflow=3, timeout_seconds=timeout_seconds)

        pool: Any = engine.pool
        assert (7, 3, wait) == (pool.size(), pool._max_overflow, pool.timeout())  # noqa: SLF001

    def test_what_a_statement_carries_is_hidden(self):
        assert create_engine(NEON).sync_engine.hide_parameters


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncGenerator[AsyncEngine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'parley.db'}", timeout_seconds=0.01)
    yield engine
    await engine.dispose()


class TestSqlite:
    @pytest.mark.parametrize("form", ["sqlite:///{}", "sqlite+aiosqlite:///{}"])
    def test_the_folder_is_made(self, form: str, tmp_path: Path):
        create_engine(form.format(tmp_path / "one/two/parley.db"))

        assert (tmp_path / "one/two").is_dir()

    def test_a_path_without_a_leading_slash_begins_here(self, tmp_path: Path):
        create_engine("sqlite:///var/parley.db")

        assert [tmp_path / "var"] == list(tmp_path.iterdir())

    async def test_nobody_else_reads_it(self, engine: AsyncEngine, tmp_path: Path):
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE said (words)"))
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}

        assert dict.fromkeys(("parley.db", "parley.db-wal", "parley.db-shm"), 0o600) == modes

    async def test_whom_else_its_owner_lets_read_it_may(self, tmp_path: Path):
        database = tmp_path / "parley.db"
        database.touch(mode=0o640)
        engine = create_engine(f"sqlite:///{database}")
        async with engine.connect():
            pass
        await engine.dispose()

        assert 0o640 == database.stat().st_mode & 0o777

    @pytest.mark.parametrize(
        ("pragma", "expected"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)]
    )
    async def test_a_connection_is_durable_and_checks_its_keys(
        self, pragma: str, expected: object, engine: AsyncEngine
    ):
        async with engine.connect() as connection:
            assert expected == await connection.scalar(text(f"PRAGMA {pragma}"))

    async def test_of_two_writers_the_second_waits_from_the_beginning(self, engine: AsyncEngine):
        async with engine.begin() as first, engine.connect() as second:
            await first.execute(text("SELECT 1"))
            with pytest.raises(OperationalError, match="locked"):
                await second.execute(text("SELECT 1"))

    async def test_a_reader_waits_for_nobody(self, engine: AsyncEngine):
        reading = for_reading(engine)
        async with engine.begin() as writer, reading.begin() as reader, reading.begin() as other:
            for connection in (writer, reader, other):
                assert 1 == await connection.scalar(text("SELECT 1"))

    async def test_what_was_not_committed_is_gone(self, engine: AsyncEngine):
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE said (words TEXT)"))
        async with engine.connect() as connection:
            await said(connection, "hello")
            await connection.rollback()

        async with engine.connect() as connection:
            assert 0 == await connection.scalar(text("SELECT count(*) FROM said"))


async def said(connection: AsyncConnection, words: str) -> None:
    await connection.execute(text("INSERT INTO said VALUES (:words)"), {"words": words})


class TestParameters:
    async def test_an_error_does_not_quote_them(self, engine: AsyncEngine):
        async with engine.connect() as connection:
            with pytest.raises(OperationalError) as caught:
                await said(connection, CANARY)

        assert "no such table" in str(caught.value)
        assert CANARY not in "".join(traceback.format_exception(caught.value))
