"""The composition root: the one module that knows every floor."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import structlog
from fastapi import FastAPI

from parley import __version__, middleware, problems
from parley.core.database import create_engine
from parley.core.logging import configure_logging, frames_of
from parley.core.security.better_auth import SignedSessions
from parley.core.security.configured import issuers_of
from parley.core.security.cursors import Cursors
from parley.core.security.passwords import Passwords
from parley.core.security.secret import derive_key, embedded_secret
from parley.core.security.tokens import LocalTokens
from parley.core.settings import InvalidSettings, Settings, load_settings
from parley.crud.memory.limits import MemoryLimiter
from parley.crud.ports import BetterAuthSessions, Store
from parley.crud.sql.better_auth import SqlBetterAuthSessions
from parley.crud.sql.database import SqlDatabase
from parley.crud.sql.store import SqlStore
from parley.dependencies.cookies import CookieRules
from parley.dependencies.services import Services
from parley.routers import auth, chat, conversations, docs, health, keys, me, metrics, turns
from parley.routers._deprecation import deprecated
from parley.schemas.limits import Quota
from parley.services.accounts import AccountService
from parley.services.authentication import Authentication
from parley.services.better_auth import BetterAuth
from parley.services.chat import ChatLimits, ChatService
from parley.services.conversations import ConversationService
from parley.services.health import HealthService
from parley.services.keys import KeyService
from parley.services.limits import LimitService
from parley.services.liveness import LiveSessions
from parley.services.responders.base import Responder
from parley.services.responders.echo import EchoResponder
from parley.services.sessions import SessionService
from parley.services.shared import Shared
from parley.services.streams import StreamService
from parley.services.turns import TurnRunner, TurnService
from parley.services.workers import Worker

TITLE = "Parley"
DESCRIPTION = """
A self-hosted chat backend: who is speaking, what was said before, one reply and not two.

Register or log in for an access token, send it as `Authorization: Bearer …`, and chat.
Every error is a problem (RFC 9457); branch on its `code`.
"""
TAGS = [
    {"name": "chat", "description": "Send a message, get a reply; both are recorded, or neither."},
    {"name": "conversations", "description": "What was said, and what the model is told first."},
    {"name": "accounts", "description": "Accounts that Parley keeps itself."},
    {"name": "health", "description": "For probes and status pages; no token needed."},
]
ALIAS = "/api/{user_id}/chat"
ALIAS_DEPRECATED = deprecated(
    since=datetime(2026, 11, 21, tzinfo=UTC),
    until=datetime(2027, 11, 21, tzinfo=UTC),
    successor="/api/v1/{user_id}/chat",
)

log = structlog.get_logger(__name__)


def open_store(settings: Settings) -> SqlStore:
    """Opens nothing yet: the first transaction does."""
    engine = create_engine(
        settings.database_url.get_secret_value(),
        pool_size=settings.database_pool_size,
        pool_overflow=settings.database_pool_overflow,
        pooler=settings.database_pooler,
        timeout_seconds=settings.database_timeout_seconds,
    )
    return SqlStore(engine, timeout_seconds=settings.database_timeout_seconds)


def open_sessions(settings: Settings, store: Store | None = None) -> BetterAuthSessions:
    """Better Auth's, over the store's own connections where they are in its database."""
    url = settings.better_auth_database_url
    if url is None and isinstance(store, SqlStore):
        return SqlBetterAuthSessions(store.database, settings.better_auth_session_table)
    engine = create_engine(
        (url or settings.database_url).get_secret_value(),
        pool_size=settings.database_pool_size,
        # Good behind a pooler and without one; which it is, nobody has to say.
        pooler="transaction",
        timeout_seconds=settings.database_timeout_seconds,
    )
    database = SqlDatabase(engine, timeout_seconds=settings.database_timeout_seconds)
    return SqlBetterAuthSessions(database, settings.better_auth_session_table)


def create_app(
    settings: Settings, *, store: Store | None = None, responder: Responder | None = None
) -> FastAPI:
    """
    The whole application. `store` and `responder` replace what the settings name.

    Raises:
        InvalidSettings: the settings are good for a command, and not for the API.
    """
    settings.check_serving()
    configure_logging(settings.log_level, settings.log_format)
    store = store or open_store(settings)
    runner = TurnRunner(store)
    worker = Worker(store)
    closing = AsyncExitStack()
    closing.push_async_callback(store.close)
    app = FastAPI(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        docs_url=None,
        redirect_slashes=False,
        redoc_url=None,
        lifespan=_lifespan(settings, runner, worker, closing),
        # The name of an operation is a function's in a generated client.
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.runner = runner
    app.state.services = _services(
        settings, store, responder or EchoResponder(), runner, worker, closing=closing
    )
    _include_routers(app, has_local_accounts="local" in settings.auth_mode)
    problems.install(app)
    metrics.install(app)
    app.add_middleware(
        middleware.RequestLayer,
        refuse=problems.response_for,
        announcements={ALIAS: ALIAS_DEPRECATED},
        is_leaving=lambda: runner.is_draining,
        cors=middleware.Cors(
            settings.cors_origins, with_credentials="better-auth" in settings.auth_mode
        ),
        hosts=middleware.Hosts(_hosts(settings)),
        request_max_bytes=settings.request_max_bytes,
        body_timeout_seconds=settings.body_timeout_seconds,
        trusted_proxies=settings.trusted_proxies,
    )
    return app


def _hosts(settings: Settings) -> Sequence[str]:
    if settings.trusted_hosts or settings.environment != "production":
        return settings.trusted_hosts or ("*",)
    log.warning("trusted-hosts-unset", answers_to=middleware.OWN_HOSTS, set="TRUSTED_HOSTS")
    return middleware.OWN_HOSTS


def _lifespan(
    settings: Settings, runner: TurnRunner, worker: Worker, closing: AsyncExitStack
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        try:
            services: Services = app.state.services
            runner.open()
            worker.start()
            services.streams.start()
            readiness = await services.health.ready()
            log.info("started", **readiness.model_dump())
            yield
            await runner.stop(grace_seconds=settings.shutdown_grace_seconds)
            await services.streams.stop()
            await worker.stop()
            await closing.aclose()
        except Exception as bug:  # noqa: BLE001 - told on, without what it quotes
            log.error("lifespan-crashed", **frames_of(bug))
            # The server logs what it gets, with all that it quotes.
            msg = "The application could not start or stop; the log says where."
            raise RuntimeError(msg) from None

    return lifespan


def _services(
    settings: Settings,
    store: Store,
    responder: Responder,
    runner: TurnRunner,
    worker: Worker,
    *,
    closing: AsyncExitStack,
) -> Services:
    secrets = _secrets(settings)
    cursors = Cursors(*(derive_key(secret, "cursors") for secret in secrets))
    tokens = LocalTokens(*secrets, lifetime_seconds=settings.auth_access_token_seconds)
    live = LiveSessions(store)
    sessions = SessionService(
        store,
        tokens,
        live,
        lifetime_seconds=settings.auth_refresh_token_seconds,
        grace_seconds=settings.auth_refresh_grace_seconds,
    )
    shared = _open_shared(settings, closing)
    return Services(
        accounts=AccountService(
            store,
            sessions,
            live,
            Passwords(),
            registration_is_open=settings.auth_registration == "open",
        ),
        authentication=Authentication(
            store,
            live,
            local=tokens if "local" in settings.auth_mode else None,
            issuers=issuers_of(settings, closing),
            better_auth=_better_auth(settings, store, closing),
        ),
        chat=ChatService(store, responder, runner, worker, _turn_limits(settings)),
        conversations=ConversationService(store, cursors),
        cookies=_cookies(settings),
        health=HealthService(store, runner, version=__version__),
        keys=KeyService(store, cursors),
        limits=_rate_limits(settings, shared, derive_key(secrets[0], "limits")),
        sessions=sessions,
        shared=shared,
        streams=StreamService(shared, max_per_user=settings.streams_max_per_user),
        turns=TurnService(store),
    )


def _better_auth(settings: Settings, store: Store, closing: AsyncExitStack) -> BetterAuth | None:
    if "better-auth" not in settings.auth_mode or settings.better_auth_secret is None:
        return None
    sessions = open_sessions(settings, store)
    closing.push_async_callback(sessions.close)
    return BetterAuth(sessions, SignedSessions(settings.better_auth_secret.get_secret_value()))


def _cookies(settings: Settings) -> CookieRules | None:
    origin = settings.better_auth_origin
    if "better-auth" not in settings.auth_mode or origin is None:
        return None
    return CookieRules(
        origins=frozenset({*settings.cors_origins, origin}), is_secure=origin.startswith("https:")
    )


def _secrets(settings: Settings) -> list[str]:
    """The one that signs, and the one of before, if any, that is still believed."""
    given = (settings.auth_secret, settings.auth_secret_previous)
    secrets = [secret.get_secret_value() for secret in given if secret is not None]
    return secrets if settings.auth_secret else [embedded_secret(), *secrets]


def _turn_limits(settings: Settings) -> ChatLimits:
    return ChatLimits(
        system_prompt=settings.system_prompt,
        history_max_messages=settings.history_max_messages,
        silence_seconds=settings.model_timeout_seconds,
        reply_seconds=settings.model_reply_seconds,
        reply_max_characters=settings.reply_max_characters,
    )


def _rate_limits(settings: Settings, shared: Shared | None, key: bytes) -> LimitService:
    return LimitService(
        MemoryLimiter(),
        shared,
        chat=Quota.of("chat", settings.rate_limit_chat),
        address=Quota.of("address", settings.rate_limit_auth),
        key=key,
    )


def _open_shared(settings: Settings, closing: AsyncExitStack) -> Shared | None:
    if settings.redis_url is None:
        return None
    # Slow to import, and not needed by who tries Parley out.
    from parley.crud.redis.common import RedisCommon  # noqa: PLC0415

    shared = Shared(RedisCommon(settings.redis_url.get_secret_value()))
    closing.push_async_callback(shared.close)
    return shared


def _include_routers(app: FastAPI, *, has_local_accounts: bool) -> None:
    # Hot routes first: each one before costs a match.
    app.include_router(chat.router, prefix="/api/v1")
    app.include_router(health.router)
    app.include_router(conversations.router, prefix="/api/v1")
    app.include_router(turns.router, prefix="/api/v1")
    app.include_router(me.router, prefix="/api/v1")
    if has_local_accounts:
        app.include_router(auth.router, prefix="/api/v1")
        app.include_router(keys.router, prefix="/api/v1")
    app.include_router(
        chat.router,
        prefix="/api",
        deprecated=True,
        generate_unique_id_function=lambda route: f"{route.name}_unversioned",
    )
    app.include_router(docs.create_router(TITLE))
    app.mount(docs.ASSETS_PATH, docs.bundles(), name="docs")


def __getattr__(name: str) -> Any:
    """`uvicorn parley.main:app` gets its application; importing this module makes none."""
    if name != "app":
        raise AttributeError(name)
    try:
        return create_app(load_settings())
    except InvalidSettings as invalid:
        raise SystemExit(str(invalid)) from None
