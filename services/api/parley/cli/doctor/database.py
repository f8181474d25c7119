"""Whether the database can be reached, may be written to, and is as this release needs it."""

from datetime import UTC, datetime, timedelta
from time import perf_counter

from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from parley.cli.doctor.finding import Finding
from parley.cli.doctor.reasons import why_not
from parley.core.database import engine_url, is_of_neon_pooler
from parley.core.errors import Unavailable
from parley.core.ids import new_id
from parley.core.settings import Settings
from parley.crud.ports import SCHEMA_REVISION, Store
from parley.services.health import is_served_by
from parley.wiring import open_store

# Half of what a token may be from the future.
CLOCK_SECONDS = 30


async def examine_database(settings: Settings) -> list[Finding]:
    url = engine_url(settings.database_url.get_secret_value())
    where = url.render_as_string(hide_password=True)
    if is_of_neon_pooler(url) and settings.database_pooler == "none":
        pooled = f"{where} leads through Neon's pooler: set DATABASE_POOLER=transaction"
        return [Finding("database", ok=False, detail=pooled)]
    found: list[Finding] = []
    try:
        store = open_store(settings)
        try:
            found.append(await _answer(store, where, _notes(url, settings)))
            found.append(await _clock(store))
            found += await _tables(store)
            found += await _powers(store) if settings.is_production else []
        finally:
            await store.close()
    except (Unavailable, SQLAlchemyError, OSError, UnicodeError) as error:
        # The first question is whether it answers; what is not asked any more is not known.
        found.append(Finding("database", ok=False, detail=f"{where} {why_not(error)}"))
    return found


async def _answer(store: Store, where: str, notes: list[str]) -> Finding:
    started_at = perf_counter()
    await store.ping()
    took = f"{where} answers in {(perf_counter() - started_at) * 1000:.1f} ms"
    return Finding("database", ok=True, detail="; ".join([took, *notes]))


def _notes(url: URL, settings: Settings) -> list[str]:
    notes = {
        "require": "over TLS, but whose certificate it is was not verified: sslmode=verify-full does",
        "verify-full": "over TLS, its certificate verified",
    }
    noted = [note for mode, note in notes.items() if url.query.get("sslmode") == mode]
    if is_of_neon_pooler(url) is False and settings.database_pooler == "transaction":
        noted.append("past Neon's pooler, to which `-pooler` in its host would lead")
    return noted


async def _clock(store: Store) -> Finding:
    asked_at = datetime.now(UTC)
    theirs = await store.clock()
    ours = asked_at + (datetime.now(UTC) - asked_at) / 2
    ahead = (ours - theirs).total_seconds()
    if abs(ahead) <= CLOCK_SECONDS:
        return Finding("clock", ok=True, detail=f"{abs(ahead):.1f} s from the database's")
    off = timedelta(seconds=round(abs(ahead)))
    which = "ahead of" if ahead > 0 else "behind"
    detail = (
        f"{off} {which} the database's: one of them is wrong; set it, and keep it right by NTP"
    )
    return Finding("clock", ok=False, detail=detail)


async def _tables(store: Store) -> list[Finding]:
    revision = await store.revision()
    if revision is None:
        return [Finding("schema", ok=False, detail="there is none yet: run `parley migrate`")]
    if not is_served_by(revision):
        old = f"{revision}, but this release needs {SCHEMA_REVISION}: run `parley migrate`"
        return [Finding("schema", ok=False, detail=old)]
    schema = Finding("schema", ok=True, detail=revision)
    return [schema, *await _indexes(store), await _writing(store)]


async def _indexes(store: Store) -> list[Finding]:
    faults = await store.index_faults()
    if not faults:
        return [Finding("indexes", ok=True, detail="all are valid")]
    return [Finding("indexes", ok=False, detail=fault) for fault in faults]


async def _writing(store: Store) -> Finding:
    """As a process that starts does it, and leaves at once: no user has a part in it."""
    worker_id = new_id()
    try:
        await store.renew(worker_id)
        await store.forget(worker_id)
    except (Unavailable, SQLAlchemyError) as error:
        return Finding("writing", ok=False, detail=f"the database {why_not(error)}")
    return Finding("writing", ok=True, detail="the database takes what is written")


async def _powers(store: Store) -> list[Finding]:
    faults = await store.faults()
    if not faults:
        return [Finding("role", ok=True, detail="has the powers that the API needs, and no other")]
    return [Finding("role", ok=False, detail=fault) for fault in faults]
