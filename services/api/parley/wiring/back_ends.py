"""What is opened: databases, Redis, models. Nothing is asked yet."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from parley.core.database import create_engine
from parley.core.settings import Settings
from parley.crud.memory.streams import MemoryStreamLog
from parley.crud.ports import BetterAuthSessions, Blobs, StreamLog
from parley.crud.sql.better_auth import SqlBetterAuthSessions
from parley.crud.sql.database import SqlDatabase
from parley.crud.sql.store import SqlStore
from parley.services.responders.base import Responder
from parley.services.responders.echo import EchoResponder
from parley.services.shared import Shared, SharedStreamLog

if TYPE_CHECKING:
    from parley.services.responders.openai import OpenAIResponder


# A look-up is a query by key.
_SESSIONS_POOL_SIZE = 4


def open_store(settings: Settings, *, refuses_faults: bool = False) -> SqlStore:
    """Opens nothing yet: the first transaction does."""
    engine = create_engine(
        settings.database_url.get_secret_value(),
        pool_size=settings.database_pool_size,
        pool_overflow=settings.database_pool_overflow,
        pooler=settings.database_pooler,
        timeout_seconds=settings.database_timeout_seconds,
    )
    return SqlStore(
        engine,
        timeout_seconds=settings.database_timeout_seconds,
        refuses_faults=refuses_faults,
    )


def open_sessions(settings: Settings) -> BetterAuthSessions:
    """Better Auth's, never over the store's connections: what its table's owner likes runs there."""
    url = settings.better_auth_database_url
    assert url is not None  # noqa: S101 - `check_serving` has asked for it
    engine = create_engine(
        url.get_secret_value(),
        pool_size=_SESSIONS_POOL_SIZE,
        # Good behind a pooler and without one; which it is, nobody has to say.
        pooler="transaction",
        timeout_seconds=settings.database_timeout_seconds,
    )
    database = SqlDatabase(
        engine, timeout_seconds=settings.database_timeout_seconds, name="better-auth"
    )
    return SqlBetterAuthSessions(database, settings.better_auth_session_table)


def open_responder(settings: Settings, closing: AsyncExitStack) -> Responder:
    """What answers, as it is set; connects to nobody yet, and is closed by `closing`."""
    return EchoResponder() if settings.responder == "echo" else open_openai(settings, closing)


def open_openai(settings: Settings, closing: AsyncExitStack) -> "OpenAIResponder":
    # Its library takes a second or two to import.
    from parley.services.responders.openai import OpenAIResponder  # noqa: PLC0415

    key = settings.openai_api_key
    responder = OpenAIResponder(
        base_url=settings.openai_base_url, api_key=None if key is None else key.get_secret_value()
    )
    closing.push_async_callback(responder.close)
    return responder


def open_shared(settings: Settings, closing: AsyncExitStack) -> Shared | None:
    if settings.redis_url is None:
        return None
    # Slow to import, and not needed by who tries Parley out.
    from parley.crud.redis.common import RedisCommon  # noqa: PLC0415

    shared = Shared(
        RedisCommon(
            settings.redis_url.get_secret_value(),
            retention_seconds=settings.stream_retention_seconds,
        )
    )
    closing.push_async_callback(shared.close)
    return shared


def stream_log(settings: Settings, shared: Shared | None) -> StreamLog:
    if shared is not None:
        return SharedStreamLog(shared)
    return MemoryStreamLog(retention_seconds=settings.stream_retention_seconds)


def open_blobs(settings: Settings, closing: AsyncExitStack) -> Blobs:
    """The file store; nothing of it is there, or asked, before the first file."""
    # Slow to import, and commands that touch no file need not wait for it.
    from obstore.store import MemoryStore  # noqa: PLC0415

    from parley.crud.objects.blobs import ObjectBlobs  # noqa: PLC0415
    from parley.crud.objects.folder import FolderBlobs  # noqa: PLC0415
    from parley.crud.objects.s3 import s3_blobs  # noqa: PLC0415

    kind, _, where = settings.files_url.partition("://")
    if kind == "memory":
        blobs = ObjectBlobs(MemoryStore)
    elif kind == "file":
        blobs = FolderBlobs(Path(where))
    else:
        secret = settings.s3_secret_access_key
        blobs = s3_blobs(
            where,
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            is_path_style=settings.s3_path_style,
            access_key_id=settings.s3_access_key_id,
            secret_access_key=None if secret is None else secret.get_secret_value(),
        )
    closing.push_async_callback(blobs.close)
    return blobs
