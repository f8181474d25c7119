"""Migrations as processes of their own and as drafts, and what they have made of a database."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import asyncpg
from alembic.config import Config

from parley.cli.migrate import ALEMBIC_INI
from parley.crud.ports import SCHEMA_REVISION
from tests.databases import DatabaseUrls, connected

_CATALOGUE = """
    SELECT 'table', relname, relrowsecurity::text, relforcerowsecurity::text, relacl::text
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
  UNION ALL
    SELECT 'column', attrelid::regclass::text,
      row_number() OVER (PARTITION BY attrelid ORDER BY attnum) || ' ' || attname,
      format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END,
      (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum)
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
  UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid),
      convalidated::text
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
  UNION ALL
    SELECT 'index', indrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid::text, NULL
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE relnamespace = 'public'::regnamespace
  UNION ALL
    SELECT 'policy', tablename, policyname, cmd || ' ' || qual, with_check
    FROM pg_policies WHERE schemaname = 'public'
  ORDER BY 1, 2, 3
"""


ROOT = Path(__file__).parents[1]
NEXT, NEXT_BUT_ONE = (f"{int(SCHEMA_REVISION) + steps:04}" for steps in (1, 2))


def migration(body: str, *, revision: str = NEXT, after: str = SCHEMA_REVISION) -> str:
    return f'''"""
One of the tests.

Locks: none.
Undo: not needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{after}"


{body}'''


def the_recipe() -> str:
    """How CONTRIBUTING.md says that an index is added."""
    (body,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    return migration(body)


def started(url: str, *command: str, **variables: str) -> "subprocess.Popen[str]":
    """`parley migrate`, or another command, as a process; nothing that it says waits in a buffer."""
    return subprocess.Popen(
        [sys.executable, *(command or ("-m", "parley.cli", "migrate"))],
        env=os.environ | {"DATABASE_URL": url, **variables},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def draft(folder: Path, url: str, *texts: str) -> Config:
    """A copy of the migrations with more of them."""
    folder.mkdir(exist_ok=True, parents=True)
    shutil.copytree(ALEMBIC_INI.parent / "migrations", folder / "migrations")
    for number, text in enumerate(texts, int(NEXT)):
        (folder / f"migrations/versions/{number:04}_draft.py").write_text(text)
    config = Config(shutil.copy(ALEMBIC_INI, folder))
    config.attributes["url"] = url
    return config


async def catalogue_of(database: DatabaseUrls) -> list[asyncpg.Record]:
    async with connected(database.admin) as admin:
        return list(await admin.fetch(_CATALOGUE))


def sqlite_catalogue_of(url: str) -> list[tuple[str, str]]:
    database = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        query = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
        return database.execute(query).fetchall()
    finally:
        database.close()
