"""The embedded database, copied by SQLite itself: safe while others write."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from parley.schemas.backups import KeptFile, Snapshot

PAGES_AT_ONCE = 1000
_WAIT_SECONDS = 5
_NOBODYS = {"alembic_version", "workers"}

Tell = Callable[[int, int], object]
"""Hears of how many pages how many are copied."""


class Unfit(Exception):
    """There is no database of Parley's, or one that may not be written over: which, and why."""


def copy_out(database: Path, copy: Path, tell: Tell) -> Snapshot:
    """
    As it is at one moment, in one file.

    Raises:
        Unfit: it is not there, or was never migrated.
    """
    try:
        source = sqlite3.connect(_uri(database, "rw"), uri=True, timeout=_WAIT_SECONDS)
    except sqlite3.OperationalError as error:
        msg = f"There is no database at {database}"
        raise Unfit(msg) from error
    with closing(source), closing(sqlite3.connect(copy, isolation_level=None)) as target:
        made_at = datetime.now(UTC)
        # Seen once for all: with each write of another process it would begin anew.
        source.execute("BEGIN")
        tables = _tables(source)
        if "alembic_version" not in tables:
            msg = f"{database} has no schema of Parley's: run `parley migrate`"
            raise Unfit(msg)
        source.backup(target, pages=PAGES_AT_ONCE, progress=_told(tell))
        # One file, without a log beside it.
        target.execute("PRAGMA journal_mode=DELETE")
        # A turn that was running is nobody's any more.
        target.execute("DELETE FROM workers")
        revision = _one(target, "SELECT version_num FROM alembic_version")
    return Snapshot(made_at=made_at, revision=revision, rows=rows_of(copy))


def rows_of(copy: Path) -> dict[str, int]:
    """How many there are in each table; of the processes that run turns there are none."""
    with closing(_looked_at(copy)) as database:
        return {
            table: _one(database, f'SELECT count(*) FROM "{table}"')  # noqa: S608 - its own tables
            for table in _tables(database)
            if table != "workers"
        }


def files_of(copy: Path) -> Iterator[KeptFile]:
    with closing(_looked_at(copy)) as database:
        if "files" not in _tables(database):
            return  # of a schema before them
        for file_id, sha256 in database.execute("SELECT id, sha256 FROM files ORDER BY id"):
            yield KeptFile(UUID(file_id), sha256)


def require_empty(database: Path) -> None:
    """
    Raises:
        Unfit: it has rows.
    """
    if database.exists():
        with closing(_alone(database)) as target:
            _require_empty(target, database)


def copy_in(copy: Path, database: Path, tell: Tell) -> None:
    """
    All of it or nothing; nobody else has the database open meanwhile.

    Raises:
        Unfit: it has rows, or somebody uses it.
    """
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with closing(_alone(database)) as target, closing(_looked_at(copy)) as source:
        _require_empty(target, database)
        source.backup(target, pages=PAGES_AT_ONCE, progress=_told(tell))


def _alone(database: Path) -> sqlite3.Connection:
    target = sqlite3.connect(database, timeout=_WAIT_SECONDS, isolation_level=None)
    try:
        # Kept behind the transaction, until it is closed.
        target.execute("PRAGMA locking_mode=EXCLUSIVE")
        target.execute("BEGIN EXCLUSIVE")
        target.execute("COMMIT")
    except sqlite3.OperationalError as error:
        target.close()
        msg = f"{database} is in use: stop `parley serve` first"
        raise Unfit(msg) from error
    return target


def _require_empty(target: sqlite3.Connection, database: Path) -> None:
    for table in _tables(target) - _NOBODYS:
        if _one(target, f'SELECT EXISTS (SELECT 1 FROM "{table}")'):  # noqa: S608 - its own tables
            msg = (
                f"{database} is not empty, {table} has rows: restore into another, by DATABASE_URL"
            )
            raise Unfit(msg)


def _looked_at(copy: Path) -> sqlite3.Connection:
    # Immutable: nothing is written beside it.
    return sqlite3.connect(_uri(copy, "ro&immutable=1"), uri=True)


def _uri(path: Path, mode: str) -> str:
    return f"{path.absolute().as_uri()}?mode={mode}"


def _tables(database: sqlite3.Connection) -> set[str]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    return {name for (name,) in database.execute(query)}


def _one(database: sqlite3.Connection, query: str) -> Any:
    (found,) = database.execute(query).fetchone()
    return found


def _told(tell: Tell) -> Callable[[int, int, int], None]:
    def progress(_: int, remaining: int, total: int) -> None:
        tell(total - remaining, total)

    return progress
