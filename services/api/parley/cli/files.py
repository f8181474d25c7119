"""`parley files`: as the database's owner, who sees every user's."""

import sys
from contextlib import AsyncExitStack

from parley.core.database import create_engine
from parley.core.errors import AppError, FileStoreUnavailable
from parley.core.logging import configure_logging
from parley.core.settings import InvalidSettings, Settings
from parley.crud.sql.ledger import LedgerClosed, SqlLedger
from parley.services.files.sweep import NothingKnown, Sweep, Swept
from parley.wiring import open_blobs


class NotSwept(Exception):
    """Why it was not swept, or not to the end, and what to do."""


async def sweep(settings: Settings, *, takes_away: bool, takes_all: bool) -> Swept:
    """
    Raises:
        InvalidSettings: there is no owner's URL, or nothing that outlives a process.
        NotSwept: the URL is not the owner's, or of a database that knows none of the bytes; or the
            file store cannot be asked.
        AppError: the database cannot.
    """
    configure_logging("ERROR", settings.log_format)
    if settings.files_url == "memory://":
        raise InvalidSettings(["FILES_URL: is memory://, which is gone with each process"])
    async with AsyncExitStack() as closing:
        engine = create_engine(
            settings.migration_url, timeout_seconds=settings.database_timeout_seconds
        )
        ledger = SqlLedger(engine, timeout_seconds=settings.database_timeout_seconds)
        closing.push_async_callback(ledger.close)
        blobs = open_blobs(settings, closing)
        sweeping = Sweep(
            ledger, blobs, tell=_say_how_far, takes_away=takes_away, takes_all=takes_all
        )
        try:
            return await sweeping.run()
        except LedgerClosed:
            msg = "DATABASE_MIGRATION_URL: set it to the database owner's; this role sees no file."
            raise NotSwept(msg) from None
        except NothingKnown:
            msg = "None of the bytes is a file of this database: is it the right one? If it is, --yes."
            raise NotSwept(msg) from None
        except FileStoreUnavailable as error:
            raise NotSwept(no_good(settings, error)) from error


def no_good(settings: Settings, error: AppError) -> str:
    """Why no file can be kept or read."""
    reason = str(error.__cause__ or error).partition("\n")[0]
    return f"{settings.files_url} is no good: {reason}"


def lines_of(swept: Swept) -> list[str]:
    """For a person to read."""
    if swept.has_taken_away:
        fate = f"removed; {swept.unfinished} half written ones too"
    else:
        fate = "not removed; half written ones are not looked for"
    hint = ": is FILES_URL the right one?" if swept.lost and not swept.blobs else ""
    return [
        f"{swept.blobs} objects looked at{hint}",
        f"  {swept.orphans} of them nobody's, {swept.orphan_bytes} bytes: {fate}",
        f"{swept.files} files looked at",
        f"  {len(swept.lost)} of them without their bytes",
        *(f"    {file_id}" for file_id in swept.lost),
    ]


def _say_how_far(swept: Swept) -> None:
    if sys.stderr.isatty():
        far = f"{swept.blobs} objects and {swept.files} files looked at ...\n"
        sys.stderr.write(far)
