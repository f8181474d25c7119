"""`parley backup` and `parley restore`: the embedded database and files, or the files of a dump."""

import asyncio
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from parley.cli.migrate import upgrade
from parley.core.database import create_engine, engine_url
from parley.core.errors import AppError, FileStoreUnavailable, StorageFull
from parley.core.logging import configure_logging
from parley.core.settings import InvalidSettings, Settings
from parley.crud.objects import backup_folder
from parley.crud.objects.backup_folder import UNFINISHED
from parley.crud.objects.backups import FILE_LIST, Backup, Busy, NotWhole, Unfinished
from parley.crud.objects.folder import FolderBlobs
from parley.crud.ports import SCHEMA_REVISION
from parley.crud.sql import sqlite_copy
from parley.crud.sql.ledger import LedgerClosed, SqlLedger
from parley.crud.sql.sqlite_copy import Unfit
from parley.schemas.backups import FileCopies, KeptFile, Manifest, Snapshot
from parley.services.backups.copying import AlreadyThere, Copied, Copying, Differs
from parley.wiring import open_blobs

_ASKED_AT_ONCE = 1000


class Refused(Exception):
    """Why there is no backup, or nothing was restored, and what to do."""


class BackedUp(NamedTuple):
    folder: Path
    manifest: Manifest
    removed: Sequence[Path] = ()


def back_up(settings: Settings, to: Path, *, only_files: bool, keep: int | None) -> BackedUp:
    """
    The embedded database and its files, or the files of the dump that is begun in `to`.

    Raises:
        InvalidSettings: there is no owner's URL, or no file that outlives a process.
        Refused: with what is wrong.
        AppError: the database cannot be asked.
    """
    _prepare(settings)
    database = None if only_files else _embedded(settings, "`make backup` backs the stack up")
    try:
        with backup_folder.alone(to):
            if database is None:
                unfinished = Unfinished(to / UNFINISHED)
                snapshot = unfinished.snapshot()
            else:
                unfinished = backup_folder.begin(to)
                copy = unfinished.path / "database.sqlite"
                snapshot = sqlite_copy.copy_out(database, copy, _say_pages)
                unfinished.note(sqlite_copy.files_of(copy))
            backed_up = asyncio.run(_copy_files(settings, unfinished, snapshot))
            if keep:
                removed = backup_folder.remove_old(backed_up.folder, keep, backed_up.manifest.lost)
                backed_up = backed_up._replace(removed=removed)
    except (Busy, NotWhole, Unfit) as refused:
        raise Refused(str(refused)) from None
    except sqlite3.Error as failed:
        raise Refused(_not_moved(failed, database, to / UNFINISHED)) from failed
    except (StorageFull, FileStoreUnavailable) as failed:
        raise Refused(_not_copied(failed)) from failed
    return backed_up


async def _copy_files(settings: Settings, unfinished: Unfinished, snapshot: Snapshot) -> BackedUp:
    unfinished.files.mkdir(mode=0o700, exist_ok=True)
    async with AsyncExitStack() as closing:
        target = FolderBlobs(unfinished.files)
        closing.push_async_callback(target.close)
        copying = Copying(open_blobs(settings, closing), target, tell=_say_files)
        copied, missing = await copying.copy(unfinished.kept())
        known = await _still_known(settings, missing)
    # Restored from one of those that are there, what its user has deleted is in the database again.
    lost = known - backup_folder.deleted_before(unfinished.path) if known else known
    folder, manifest = unfinished.finish(
        snapshot,
        total_bytes=copied.total_bytes,
        deleted=[file for file in missing if file.id not in lost],
        lost=[file for file in missing if file.id in lost],
    )
    return BackedUp(folder, manifest)


async def _still_known(settings: Settings, missing: Iterable[KeptFile]) -> set[UUID]:
    """Those that have lost their bytes, and were not deleted since the database was copied."""
    limit = settings.database_timeout_seconds
    ledger = SqlLedger(
        create_engine(settings.migration_url, timeout_seconds=limit), timeout_seconds=limit
    )
    known, remaining = set[UUID](), iter(missing)
    try:
        while page := [file.id for file in islice(remaining, _ASKED_AT_ONCE)]:
            known |= await ledger.known(page)
    except LedgerClosed:
        raise Refused(_NOT_THE_OWNERS) from None
    finally:
        await ledger.close()
    return known


def restore(settings: Settings, folder: Path, *, only_files: bool) -> Manifest:
    """
    Into the embedded database and its files, or the files alone of a dump that is restored next.

    Raises:
        InvalidSettings: as of `back_up`.
        Refused: with what is wrong. The database is as it was, and of files at most some are there already.
        AppError: the database cannot be asked, or the file store takes no more.
    """
    _prepare(settings)
    database = None if only_files else _embedded(settings, "`make restore` restores the stack")
    backup = Backup(folder)
    try:
        manifest = _fit(backup, "database.dump" if only_files else "database.sqlite")
        copy = folder / manifest.database.name
        if database is not None:
            _require_rows(copy, manifest)
            sqlite_copy.require_empty(database)
        asyncio.run(_put_files_back(settings, backup, manifest.files))
        if database is not None:
            sqlite_copy.copy_in(copy, database, _say_pages)
    except (NotWhole, Unfit) as refused:
        raise Refused(str(refused)) from None
    except sqlite3.Error as failed:
        raise Refused(_not_moved(failed, folder, database)) from failed
    except (StorageFull, FileStoreUnavailable) as failed:
        raise Refused(_not_copied(failed)) from failed
    if database is not None:
        upgrade(settings.migration_url)
    return manifest


def _fit(backup: Backup, name: str) -> Manifest:
    manifest = backup.manifest()
    if manifest.database.name != name:
        msg = f"{backup.path} has {manifest.database.name}, and this restores {name}"
        raise Refused(msg)
    if manifest.revision > SCHEMA_REVISION:
        msg = (
            f"Its schema is {manifest.revision}, later than this release's {SCHEMA_REVISION}:"
            f" restore it with Parley {manifest.parley} or later"
        )
        raise Refused(msg)
    backup.require(manifest)
    return manifest


def _require_rows(copy: Path, manifest: Manifest) -> None:
    if manifest.rows != sqlite_copy.rows_of(copy):
        msg = f"{copy} has other rows than its manifest says"
        raise Refused(msg)


async def _put_files_back(settings: Settings, backup: Backup, said: FileCopies) -> None:
    async with AsyncExitStack() as closing:
        source = FolderBlobs(backup.files)
        closing.push_async_callback(source.close)
        copying = Copying(source, open_blobs(settings, closing), tell=_say_files)
        try:
            seen = await copying.compare(backup.kept())
        except Differs as differs:
            msg = f"{backup.files / str(differs)} differs from {FILE_LIST}, or is not there"
            raise NotWhole(msg) from None
        except AlreadyThere as there:
            msg = f"FILES_URL has another file {there}: restore into an empty store"
            raise Refused(msg) from None
        if (seen.files, seen.total_bytes) != (said.count, said.total_bytes):
            msg = (
                f"{backup.path / FILE_LIST} has {seen.files} files of {seen.total_bytes} bytes,"
                f" and the manifest says {said.count} of {said.total_bytes}"
            )
            raise NotWhole(msg)
        _, changed = await copying.copy(backup.kept())
        if changed:
            msg = f"{backup.files} has changed meanwhile"
            raise NotWhole(msg)


def lines_of(folder: Path, manifest: Manifest) -> list[str]:
    """For a person to read."""
    rows = sum(manifest.rows.values())
    fates = {
        "deleted meanwhile: in the database, and without bytes": manifest.deleted,
        "without their bytes before: is FILES_URL the right one?": manifest.lost,
    }
    return [
        str(folder),
        f"  {rows} rows of {len(manifest.rows)} tables, {manifest.database.size} bytes",
        f"  {manifest.files.count} files, {manifest.files.total_bytes} bytes",
        *(
            line
            for fate, ids in fates.items()
            if ids
            for line in (f"  {len(ids)} {fate}", *(f"    {file_id}" for file_id in ids))
        ),
    ]


_NOT_THE_OWNERS = "DATABASE_MIGRATION_URL: set it to the database owner's; this role sees no rows."


def _prepare(settings: Settings) -> None:
    configure_logging("ERROR", settings.log_format)
    if settings.files_url == "memory://":
        raise InvalidSettings(["FILES_URL: is memory://, which is gone with each process"])


def _embedded(settings: Settings, otherwise: str) -> Path:
    url = engine_url(settings.migration_url)
    if url.get_backend_name() != "sqlite":
        msg = f"The database is PostgreSQL, not SQLite: {otherwise}, and docs/backup.md has all others"
        raise Refused(msg)
    return Path(str(url.database))


def _not_moved(error: sqlite3.Error, source: Path | None, target: Path | None) -> str:
    return f"{source} cannot be copied into {target}: {error}. Is there room, and may both be read and written?"


def _not_copied(error: AppError) -> str:
    reason = str(error.__cause__ or error).partition("\n")[0]
    return f"The files cannot be copied: {reason}"


def _say_pages(copied: int, total: int) -> None:
    _say(f"{copied} of {total} pages of the database ...")


def _say_files(copied: Copied) -> None:
    _say(f"{copied.files} files, {copied.total_bytes} bytes ...")


def _say(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"{line}\n")
