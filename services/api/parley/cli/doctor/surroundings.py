"""What Parley needs beside its database."""

import asyncio
from contextlib import AsyncExitStack

from redis.exceptions import AuthenticationError, NoPermissionError, ReadOnlyError

from parley.cli.doctor.finding import Finding
from parley.cli.files import no_good
from parley.core.errors import AppError, Full, Unavailable
from parley.core.security.configured import keys_urls_of
from parley.core.security.jwks import Jwks
from parley.core.security.keys import KeysUnreadable
from parley.core.settings import Settings
from parley.crud.redis.connection import probe
from parley.services.responders.base import Fault
from parley.wiring import open_blobs, open_openai, open_sessions

MODEL_SECONDS = 10


async def examine_issuers(settings: Settings) -> list[Finding]:
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


async def examine_redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        return Finding("redis", ok=True, detail="not set, and not needed for one process")
    try:
        policy = await probe(settings.redis_url.get_secret_value())
    except Full:
        reason = "has no room left: give it more maxmemory, or shorten STREAM_RETENTION_SECONDS"
    except Unavailable as unavailable:
        reason = _why_no_redis(unavailable.__cause__)
    else:
        if policy == "noeviction":
            return Finding("redis", ok=True, detail="answers, and has room")
        reason = (
            f"would forget limits and live events when it is full: its maxmemory-policy is {policy},"
            " and must be noeviction"
        )
    return Finding("redis", ok=False, detail=f"REDIS_URL {reason}")


def _why_no_redis(cause: BaseException | None) -> str:
    match cause:
        case AuthenticationError():
            return "is refused: are its user and password right?"
        case NoPermissionError():
            return "does not allow its user what Parley asks: SET, INFO, and what limits and events need"
        case ReadOnlyError():
            return "leads to a replica, which takes nothing: it must lead to the primary"
        case _:
            return "does not answer in 0.2 s: is it running, and near?"


async def examine_files(settings: Settings) -> Finding:
    async with AsyncExitStack() as closing:
        try:
            await open_blobs(settings, closing).check()
        except AppError as error:
            needs = "it must be there for all processes, writable for them, and have room"
            return Finding("files", ok=False, detail=f"{no_good(settings, error)}; {needs}")
    return Finding("files", ok=True, detail=f"{settings.files_url} takes files")


async def examine_model(settings: Settings) -> Finding:
    if settings.responder == "echo":
        is_meant = not (settings.openai_base_url or settings.model or settings.models)
        unused = "" if is_meant else "; for the one that is set RESPONDER must be openai"
        return Finding("model", ok=True, detail=f"echo, which needs no model{unused}")
    where = settings.openai_base_url or "OpenAI"
    try:
        async with AsyncExitStack() as closing, asyncio.timeout(MODEL_SECONDS):
            listed = await open_openai(settings, closing).models()
    except Fault as fault:
        # Most say what to look at.
        hint = "" if "?" in str(fault) else "; does it run, and is OPENAI_BASE_URL right?"
        return Finding("model", ok=False, detail=f"{where} cannot be used: {fault}{hint}")
    except TimeoutError:
        silent = f"{where} does not answer in {MODEL_SECONDS} s"
        return Finding("model", ok=False, detail=silent)
    # Ollama lists `name:latest` for what it is asked for as `name`.
    missing = [m for m in settings.offered_models if not {m, f"{m}:latest"} & listed]
    if missing:
        lacks = f"{where} does not list {', '.join(missing)}: are MODEL and MODELS right?"
        return Finding("model", ok=False, detail=lacks)
    return Finding("model", ok=True, detail=f"{where} has {', '.join(settings.offered_models)}")
