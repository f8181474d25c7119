import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

import parley
from parley.core.database import create_engine
from parley.core.resilience import sqlstate

# Beside the package: the checkout and the image lay them out the same way.
ALEMBIC_INI = Path(parley.__file__).parent.parent / "alembic.ini"
LOOKING_SECONDS = 30

_AS_APPLIED = "The schema is as the last line that says Applied left it"
_WHO = (
    "To see who: SELECT pid, application_name, state, xact_start FROM pg_stat_activity"
    " WHERE datname = current_database() ORDER BY xact_start"
)
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_LIMITS = {
    "55P03": [
        "Another session holds a table, and the next step gave up rather than let everybody wait.",
        f"{_AS_APPLIED}. Run it again when that session is done. {_WHO}",
    ],
    "40P01": [
        "The next step and another session waited for each other, and the step gave up.",
        f"{_AS_APPLIED}. Run it again.",
    ],
    "57014": [
        "The next step took longer than it may, or somebody cancelled it.",
        f"{_AS_APPLIED}. Run it again when the database has less to do. {_WHO}",
    ],
}


class NotMigrated(Exception):
    """Why the schema is not the newest, or not whole, and what to do: a line each."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def upgrade(url: str) -> None:
    """
    Blocks until the schema is the newest, or another process that migrates has finished.

    Raises:
        NotMigrated: it is not, or it has an index that is not valid.
    """
    config = Config(ALEMBIC_INI)
    config.attributes["url"] = url
    try:
        command.upgrade(config, "head")
    except CommandError as refusal:
        raise NotMigrated(str(refusal), f"{_AS_APPLIED}.") from refusal
    except DBAPIError as error:
        if lines := _LIMITS.get(sqlstate(error) or ""):
            raise NotMigrated(*lines) from error
        raise
    if faults := asyncio.run(_index_faults(url)):
        raise NotMigrated(*faults)


async def _index_faults(url: str) -> list[str]:
    from parley.crud.sql.store import SqlStore  # noqa: PLC0415 - it counts from its import on

    engine = create_engine(url, timeout_seconds=LOOKING_SECONDS)
    store = SqlStore(engine, timeout_seconds=LOOKING_SECONDS)
    try:
        return list(await store.index_faults())
    finally:
        await store.close()
