import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from time import perf_counter
from typing import NamedTuple

from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from parley.cli.files import no_good
from parley.core.database import engine_url, is_of_neon_pooler
from parley.core.errors import AppError, Unavailable
from parley.core.security.configured import keys_urls_of
from parley.core.security.jwks import Jwks
from parley.core.security.keys import KeysUnreadable
from parley.core.settings import InvalidSettings, Settings, load_settings
from parley.crud.ports import SCHEMA_REVISION, Store
from parley.crud.redis.connection import ping
from parley.services.health import is_served_by
from parley.services.responders.base import Fault
from parley.wiring import open_blobs, open_openai, open_sessions, open_store

MODEL_SECONDS = 10


class Finding(NamedTuple):
    name: str
    ok: bool
    detail: str


async def examine() -> list[Finding]:
    """Everything that can be seen from here; what depends on something broken is left out."""
    try:
        settings = load_settings()
        settings.check_serving()
    except InvalidSettings as invalid:
        return [Finding("settings", ok=False, detail=fault) for fault in invalid.faults]
    return [
        Finding("settings", ok=True, detail=settings.environment),
        *await examine_database(settings),
        await _redis(settings),
        await _files(settings),
        *await _issuers(settings),
        await _model(settings),
    ]


async def refusals(settings: Settings) -> Sequence[str]:
    """What keeps production from this database, as far as it answers now."""
    if not settings.is_production:
        return ()
    store = open_store(settings)
    try:
        return await store.faults()
    except Unavailable:
        return ()
    finally:
        await store.close()


async def examine_database(settings: Settings) -> list[Finding]:
    url = engine_url(settings.database_url.get_secret_value())
    where = url.render_as_string(hide_password=True)
    if is_of_neon_pooler(url) and settings.database_pooler == "none":
        pooled = f"{where} leads through Neon's pooler: set DATABASE_POOLER=transaction"
        return [Finding("database", ok=False, detail=pooled)]
    started_at = perf_counter()
    try:
        store = open_store(settings)
        try:
            await store.ping()
            took = f"{where} answers in {(perf_counter() - started_at) * 1000:.1f} ms"
            noted = "".join(f"; {note}" for note in _notes(url, settings))
            found = [Finding("database", ok=True, detail=took + noted), await _schema(store)]
            found += await _indexes(store)
            return [*found, *await _powers(store)] if settings.is_production else found
        finally:
            await store.close()
    except Unavailable:
        reach = f"{where} does not answer: is it running, are name, password and DATABASE_POOLER right?"
        if "sslrootcert" in url.query:
            reach += " Is its certificate of a CA of this system's, or SSL_CERT_FILE's?"
    except (SQLAlchemyError, OSError) as error:
        reach = f"{where} cannot be used: {getattr(error, 'orig', None) or error}"
    return [Finding("database", ok=False, detail=reach)]


def _notes(url: URL, settings: Settings) -> list[str]:
    notes = {
        "require": "over TLS, but whose certificate it is was not verified: sslmode=verify-full does",
        "verify-full": "over TLS, its certificate verified",
    }
    noted = [note for mode, note in notes.items() if url.query.get("sslmode") == mode]
    if is_of_neon_pooler(url) is False and settings.database_pooler == "transaction":
        noted.append("past Neon's pooler, to which `-pooler` in its host would lead")
    return noted


async def _schema(store: Store) -> Finding:
    revision = await store.revision()
    if revision is None:
        return Finding("schema", ok=False, detail="there is none yet: run `parley migrate`")
    if not is_served_by(revision):
        old = f"{revision}, but this release needs {SCHEMA_REVISION}: run `parley migrate`"
        return Finding("schema", ok=False, detail=old)
    return Finding("schema", ok=True, detail=revision)


async def _indexes(store: Store) -> list[Finding]:
    faults = await store.index_faults()
    if not faults:
        return [Finding("indexes", ok=True, detail="all are valid")]
    return [Finding("indexes", ok=False, detail=fault) for fault in faults]


async def _issuers(settings: Settings) -> list[Finding]:
    findings = [await _keys(mode, url) for mode, url in keys_urls_of(settings).items()]
    if "better-auth" in settings.auth_mode:
        findings.append(await _sessions(settings))
    return findings


async def _keys(mode: str, url: str) -> Finding:
    name, jwks = f"{mode} keys", Jwks(url)
    try:
        count = len(await jwks.fetch())
    except KeysUnreadable as problem:
        return Finding(name, ok=False, detail=f"{url} cannot be used: {problem}")
    finally:
        await jwks.close()
    if not count:
        # Better Auth makes its first when it first signs.
        return Finding(name, ok=True, detail=f"{url} has none yet that can be used")
    return Finding(name, ok=True, detail=f"{url} has {count}")


async def _sessions(settings: Settings) -> Finding:
    name, table = "better-auth sessions", settings.better_auth_session_table
    sessions = open_sessions(settings)
    try:
        await sessions.user_of("")
    except Unavailable:
        reach = (
            f"the table {table} cannot be read: may the role of BETTER_AUTH_DATABASE_URL SELECT its"
            " token, expiresAt and userId?"
        )
        return Finding(name, ok=False, detail=reach)
    finally:
        await sessions.close()
    return Finding(name, ok=True, detail=f"the table {table} can be read")


async def _powers(store: Store) -> list[Finding]:
    faults = await store.faults()
    if not faults:
        return [Finding("role", ok=True, detail="has the powers that the API needs, and no other")]
    return [Finding("role", ok=False, detail=fault) for fault in faults]


async def _redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        return Finding("redis", ok=True, detail="not set, and not needed for one process")
    try:
        await ping(settings.redis_url.get_secret_value())
    except Unavailable:
        return Finding("redis", ok=False, detail="REDIS_URL does not answer: is it running?")
    return Finding("redis", ok=True, detail="answers")


async def _files(settings: Settings) -> Finding:
    async with AsyncExitStack() as closing:
        try:
            await open_blobs(settings, closing).check()
        except AppError as error:
            return Finding("files", ok=False, detail=no_good(settings, error))
    return Finding("files", ok=True, detail=f"{settings.files_url} takes files")


async def _model(settings: Settings) -> Finding:
    if settings.responder == "echo":
        is_meant = not (settings.openai_base_url or settings.model or settings.models)
        unused = "" if is_meant else "; for the one that is set RESPONDER must be openai"
        return Finding("model", ok=True, detail=f"echo, which needs no model{unused}")
    where = settings.openai_base_url or "OpenAI"
    try:
        async with AsyncExitStack() as closing, asyncio.timeout(MODEL_SECONDS):
            listed = await open_openai(settings, closing).models()
    except Fault as fault:
        return Finding("model", ok=False, detail=f"{where} cannot be used: {fault}")
    except TimeoutError:
        silent = f"{where} does not answer in {MODEL_SECONDS} s"
        return Finding("model", ok=False, detail=silent)
    # Ollama lists `name:latest` for what it is asked for as `name`.
    missing = [m for m in settings.offered_models if not {m, f"{m}:latest"} & listed]
    if missing:
        lacks = f"{where} does not list {', '.join(missing)}: are MODEL and MODELS right?"
        return Finding("model", ok=False, detail=lacks)
    return Finding("model", ok=True, detail=f"{where} has {', '.join(settings.offered_models)}")
