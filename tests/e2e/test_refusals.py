"""In production: a database that must not be used so, and what the commands make of it."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SECRET
from tests.databases import DatabaseUrls
from tests.logins import login_beside
from tests.processes import PATIENCE_SECONDS, Server, free_port, until
from tests.proxy import proxied

PARLEY = (sys.executable, "-m", "parley.cli")
UVICORN = (sys.executable, "-m", "uvicorn", "parley.main:app", "--port")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def production(redis_url: str) -> dict[str, str]:
    return {
        "ENVIRONMENT": "production",
        "AUTH_SECRET": SECRET,
        "REDIS_URL": redis_url,
        "LOG_FORMAT": "json",
        "DATABASE_TIMEOUT_SECONDS": "30",
    }


@pytest.fixture
def run(tmp_path: Path, production: dict[str, str]) -> Run:
    def to_its_end(*command: str, url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | production | {"DATABASE_URL": url, "BACKEND_PORT": str(free_port())},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    return to_its_end


def has_started(folder: Path, times: int = 1) -> bool:
    logged = "".join(log.read_text() for log in folder.glob("*.log"))
    return logged.count("startup complete") >= times


class TestAnOwner:
    def test_is_served_by_no_server(self, run: Run, postgres: DatabaseUrls):
        refused = run(*PARLEY, "serve", url=postgres.owner)

        assert 1 == refused.returncode
        (line,) = refused.stderr.splitlines()
        assert line.startswith("DATABASE_URL: its role ")
        assert "has BYPASSRLS, owns the database, owns the schema, owns tables" in line
        assert "deploy/postgres/roles.sql" in line

    def test_is_served_by_no_uvicorn(self, run: Run, postgres: DatabaseUrls):
        refused = run(*UVICORN, str(free_port()), url=postgres.owner)

        assert 3 == refused.returncode
        assert 1 == refused.stderr.count("DATABASE_URL: its role ")

    def test_is_named_by_the_doctor(self, run: Run, postgres: DatabaseUrls):
        # Redis has a fifth of a second for its answer, be the machine as busy as it likes.
        until(lambda: run(*PARLEY, "doctor", url=postgres.api).returncode == 0)
        ill, well = (run(*PARLEY, "doctor", url=url) for url in (postgres.owner, postgres.api))

        assert 1 == ill.returncode
        assert re.search("^FAIL  role +DATABASE_URL: its role ", ill.stdout, re.MULTILINE)
        assert "ok    role " in well.stdout


class TestARoleThatIsGivenMoreWhileItIsServed:
    async def test_the_next_worker_that_starts_ends_the_server(
        self, tmp_path: Path, production: dict[str, str], postgres: DatabaseUrls
    ):
        """The workers that are there serve with the same powers; and one after the other would fail."""
        async with login_beside(postgres) as login:
            variables = {"DATABASE_URL": login.url, "WEB_CONCURRENCY": "2"}
            with Server(tmp_path, **production, **variables) as server:
                await asyncio.to_thread(until, lambda: has_started(tmp_path, times=2))
                await login.do("ALTER ROLE {role} BYPASSRLS")
                os.kill(min(server.workers()), signal.SIGKILL)

                assert 3 == await asyncio.to_thread(server.wait)
            assert "has BYPASSRLS" in server.output


class TestADatabaseThatIsAway:
    async def test_keeps_no_server_from_starting(
        self, tmp_path: Path, production: dict[str, str], postgres: DatabaseUrls
    ):
        """It becomes ready by itself, as a server does in development."""
        async with proxied(postgres.api) as (proxy, url):
            await proxy.refuse()
            server = Server(tmp_path, DATABASE_URL=url, **production)
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            await asyncio.to_thread(until, lambda: has_started(tmp_path))
            assert not starting.done()
            await proxy.serve()
            await starting
            await asyncio.to_thread(server.stop)
