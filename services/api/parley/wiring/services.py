"""All services of one process."""

from contextlib import AsyncExitStack

from parley import __version__
from parley.core.security.cursors import Cursors
from parley.core.security.secret import derive_key
from parley.core.security.tokens import LocalTokens
from parley.core.settings import Settings
from parley.crud.memory.limits import MemoryLimiter
from parley.crud.ports import Blobs, Store
from parley.dependencies.services import Services
from parley.schemas.limits import Quota
from parley.services.conversations import ConversationService
from parley.services.files.erasing import Eraser
from parley.services.files.service import FileService
from parley.services.files.types import FileTypes
from parley.services.health import HealthService
from parley.services.keys import KeyService
from parley.services.limits import LimitService
from parley.services.liveness import LiveSessions
from parley.services.responders.base import Responder
from parley.services.shared import Shared
from parley.services.streams import StreamService
from parley.services.turns.runner import TurnRunner
from parley.services.workers import Worker
from parley.wiring.accounts import (
    account_service,
    authentication,
    cookies,
    secrets_of,
    session_service,
)
from parley.wiring.back_ends import open_blobs, open_shared, stream_log
from parley.wiring.turns import turn_services


def services_of(
    settings: Settings,
    store: Store,
    responder: Responder,
    runner: TurnRunner,
    worker: Worker,
    *,
    closing: AsyncExitStack,
) -> Services:
    """What is opened for them is closed by `closing`."""
    secrets = secrets_of(settings)
    cursors = Cursors(*(derive_key(secret, "cursors") for secret in secrets))
    tokens = LocalTokens(*secrets, lifetime_seconds=settings.auth_access_token_seconds)
    live = LiveSessions(store)
    sessions = session_service(settings, store, live, tokens)
    shared = open_shared(settings, closing)
    blobs = open_blobs(settings, closing)
    eraser = Eraser(blobs)
    answering = turn_services(
        settings,
        store=store,
        blobs=blobs,
        responder=responder,
        runner=runner,
        worker=worker,
        log=stream_log(settings, shared),
    )
    return Services(
        accounts=account_service(settings, store, sessions, live, eraser),
        authentication=authentication(settings, store, live, tokens, closing),
        cancels=answering.cancels,
        chat=answering.chat,
        conversations=ConversationService(store, answering.records, cursors),
        cookies=cookies(settings),
        files=_files(settings, store, blobs, eraser, cursors),
        health=_health(settings, store, runner),
        keys=KeyService(store, cursors),
        relay=answering.relay,
        limits=_rate_limits(settings, shared, derive_key(secrets[0], "limits")),
        sessions=sessions,
        shared=shared,
        streams=StreamService(shared, max_per_user=settings.streams_max_per_user),
        turns=answering.turns,
    )


def _files(
    settings: Settings, store: Store, blobs: Blobs, eraser: Eraser, cursors: Cursors
) -> FileService:
    return FileService(
        store,
        blobs,
        eraser,
        FileTypes(settings.upload_types),
        cursors,
        max_bytes=settings.upload_max_bytes,
        quota_bytes=settings.upload_quota_bytes,
    )


def _health(settings: Settings, store: Store, runner: TurnRunner) -> HealthService:
    return HealthService(store, runner, version=__version__, refuses_faults=settings.is_production)


def _rate_limits(settings: Settings, shared: Shared | None, key: bytes) -> LimitService:
    return LimitService(
        MemoryLimiter(),
        shared,
        chat=Quota.of("chat", settings.rate_limit_chat),
        address=Quota.of("address", settings.rate_limit_auth),
        # As many tries of each as a client may make while it waits.
        keyed_at_once=5 * settings.streams_max_per_user,
        key=key,
    )
