"""The scripts that dump and restore: how they understand a database's URL, and what they make of what is told to them."""

import os
import subprocess
from pathlib import Path

import pytest

from parley.core.database import engine_url
from tests.deploy.manifests import ROOT

SCRIPTS = ROOT / "deploy/postgres/backup"
CONNECT = SCRIPTS / "connect.sh"
NAMES = (
    *("PGUSER", "PGPASSWORD", "PGHOST", "PGPORT", "PGDATABASE"),
    *("PGSSLMODE", "PGSSLROOTCERT", "PGCHANNELBINDING"),
)
SHOW = f"set -euo pipefail; . {CONNECT}; " + "".join(f'echo "${{{name}-}}";' for name in NAMES)


def told(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        ["bash", "-c", SHOW], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://parley_owner:0123abcd@postgres:5432/parley",
        "postgres://ann:pa%40ss%2Fw%25rd%5C%20x@db.example.com/parley",
        "postgresql+asyncpg://ann:p$(id)`id`'\"w@10.0.0.1:6000/p",
        "postgresql://ann@[2001:db8::1]:5433/parley",
        "postgresql://ann:x@ep-a-b.eu-central-1.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
        "postgresql://ann:x@db.example.com/neondb?sslmode=verify-full&sslrootcert=system",
        "postgresql://ann:x@/parley?host=/run/postgresql",
    ],
)
def test_it_is_understood_as_parley_understands_it(url: str):
    parsed = engine_url(url)
    done = told(DATABASE_MIGRATION_URL=url)

    assert 0 == done.returncode, done.stderr
    assert [
        parsed.username or "",
        parsed.password or "",
        parsed.host or parsed.query.get("host", ""),
        str(parsed.port or 5432),
        parsed.database,
        parsed.query.get("sslmode", ""),
        parsed.query.get("sslrootcert", ""),
        parsed.query.get("channel_binding", ""),
    ] == done.stdout.splitlines()


def test_it_may_be_in_a_file(tmp_path: Path):
    path = tmp_path / "url"
    path.write_text("postgresql://ann:secret@db/parley\n")

    assert "secret" == told(DATABASE_MIGRATION_URL_FILE=str(path)).stdout.splitlines()[1]


@pytest.mark.parametrize("url", ["sqlite:///var/parley.db", "ann:secret@db"])
def test_what_is_none_is_refused_and_not_repeated(url: str):
    done = told(DATABASE_MIGRATION_URL=url)

    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("DATABASE_MIGRATION_URL: must look like")
    assert url not in done.stderr


def test_without_any_it_says_what_to_set():
    done = told()

    assert 0 != done.returncode
    assert "DATABASE_MIGRATION_URL" in done.stderr


# What pg_restore writes into psql, as of PostgreSQL 17; and a line of a user's data that says the same.
DUMP = """\
--
-- PostgreSQL database dump
--

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);

COPY public.notes (text) FROM stdin;
SET transaction_timeout = 0;
\\.
"""


def run_with(script: str, folder: Path, **tools: str) -> subprocess.CompletedProcess[str]:
    """As the page has it; in place of PostgreSQL's tools, shell functions of their names."""
    made = "".join(f"{name}() {{ {body}; }}; export -f {name}; " for name, body in tools.items())
    return subprocess.run(
        ["bash", "-c", f'{made} exec "$@"', "bash", str(SCRIPTS / script), str(folder)],
        env={"PATH": os.environ["PATH"], "DATABASE_MIGRATION_URL": "postgresql://ann:x@db/p"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


class TestBackup:
    def test_without_a_dump_it_fails_whatever_psql_says(self, tmp_path: Path):
        """One of before 16 does not know how the program ended that it has run."""
        done = run_with("backup.sh", tmp_path, psql="cat >/dev/null")

        assert (1, "The database was not dumped\n") == (done.returncode, done.stderr)

    def test_with_one_it_is_well(self, tmp_path: Path):
        done = run_with("backup.sh", tmp_path, psql="cat >/dev/null; touch database.dump")

        assert (0, "") == (done.returncode, done.stderr)


class TestRestore:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "manifest.json").write_text("{}")
        (tmp_path / "dump.sql").write_text(DUMP)
        return tmp_path

    def test_a_server_of_before_17_is_told_nothing_that_it_does_not_know(self, folder: Path):
        """Of the dump no other line is lost, and none of what a user wrote."""
        done = run_with("restore.sh", folder, psql="cat", pg_restore="cat dump.sql")

        assert 0 == done.returncode, done.stderr
        _, told, behind = done.stdout.partition(
            DUMP.replace("SET transaction_timeout = 0;\n", "", 1)
        )
        assert told
        assert "COMMIT;" in behind

    def test_where_the_dump_ends_early_nothing_is_committed(self, folder: Path):
        """That the last of the pipe is well does not make it so."""
        done = run_with("restore.sh", folder, psql="cat", pg_restore="head -8 dump.sql; return 3")

        assert 3 == done.returncode
        assert "SET lock_timeout = 0;" in done.stdout
        assert "COMMIT" not in done.stdout

    def test_one_that_was_not_finished_is_refused_plainly(self, folder: Path):
        (folder / "manifest.json").unlink()

        done = run_with("restore.sh", folder, psql="cat", pg_restore="cat dump.sql")

        assert (1, "") == (done.returncode, done.stdout)
        assert (
            f"{folder} has no manifest.json: it is no backup, or an unfinished one\n"
            == done.stderr
        )
