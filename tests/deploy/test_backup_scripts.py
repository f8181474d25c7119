"""How the scripts that dump and restore understand a database's URL: as Parley does."""

import os
import subprocess
from pathlib import Path

import pytest

from parley.core.database import engine_url
from tests.deploy.manifests import ROOT

CONNECT = ROOT / "deploy/postgres/backup/connect.sh"
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
