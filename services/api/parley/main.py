"""The composition root: the one module that knows every floor."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import structlog
from fastapi import FastAPI

from parley import __version__, middleware, problems
from parley.core.database import create_engine
from parley.core.logging import configure_logging, frames_of
from parley.core.security.cursors import Cursors
from parley.core.security.passwords import Passwords
from parley.core.security.secret import derive_key, embedded_secret
from parley.core.security.tokens import LocalTokens
from parley.core.settings import InvalidSettings, Settings, load_settings
from parley.crud.ports import Store
from parley.crud.sql.store import SqlStore
from parley.dependencies.services import Services
from parley.routers import auth, chat, conversations, docs, health, keys, me, metrics, turns
from parley.routers._deprecation import deprecated
from parley.schemas.health import Readiness
from parley.services.accounts import AccountService
from parley.services.authentication import Authentication
from parley.services.chat import ChatLimits, ChatService
from parley.services.conversations import ConversationService
from parley.services.health import HealthService
from parley.services.keys import KeyService
from parley.services.liveness import LiveSessions
from parley.services.responders.base import Responder
from parley.services.responders.echo import EchoResponder
from parley.services.sessions import SessionService
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


class DatabaseRefused(Exception):
    """In production this database must not be used so; the log says why, a line a fault."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


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
    store = store or open_store(settings, refuses_faults=settings.is_production)
    runner = TurnRunner(store)
    worker = Worker(store)
    app = FastAPI(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        docs_url=None,
        redirect_slashes=False,
        redoc_url=None,
        lifespan=_lifespan(settings, store, runner, worker),
        # The name of an operation is a function's in a generated client.
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.runner = runner
    app.state.services = _services(settings, store, responder or EchoResponder(), runner, worker)
    _include_routers(app, has_local_accounts="local" in settings.auth_mode)
    problems.install(app)
    metrics.install(app)
    app.add_middleware(
        middleware.RequestLayer,
        refuse=problems.response_for,
        announcements={ALIAS: ALIAS_DEPRECATED},
        is_leaving=lambda: runner.is_draining,
        request_max_bytes=settings.request_max_bytes,
        trusted_proxies=settings.trusted_proxies,
    )
    return app


def _lifespan(
    settings: Settings, store: Store, runner: TurnRunner, worker: Worker
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        try:
            runner.open()
            worker.start()
            log.info("started", **(await _look_around(app)).model_dump())
            yield
            await runner.stop(grace_seconds=settings.shutdown_grace_seconds)
            await worker.stop()
            await store.close()
        except DatabaseRefused:
            await worker.stop()
            await store.close()
            raise
        except Exception as bug:  # noqa: BLE001 - told on, without what it quotes
            log.error("lifespan-crashed", **frames_of(bug))
            # The server logs what it gets, with all that it quotes.
            msg = "The application could not start or stop; the log says where."
            raise RuntimeError(msg) from None

    return lifespan


async def _look_around(app: FastAPI) -> Readiness:
    """
    Raises:
        DatabaseRefused: it answers, and must not be used so.
    """
    readiness: Readiness = await app.state.services.health.ready()
    if readiness.database == "refused":
        raise DatabaseRefused
    return readiness


def _services(
    settings: Settings, store: Store, responder: Responder, runner: TurnRunner, worker: Worker
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
    limits = ChatLimits(
        system_prompt=settings.system_prompt,
        history_max_messages=settings.history_max_messages,
        silence_seconds=settings.model_timeout_seconds,
        reply_seconds=settings.model_reply_seconds,
        reply_max_characters=settings.reply_max_characters,
    )
    return Services(
        accounts=AccountService(
            store,
            sessions,
            live,
            Passwords(),
            registration_is_open=settings.auth_registration == "open",
        ),
        authentication=Authentication(
            store, live, local=tokens if "local" in settings.auth_mode else None, issuers={}
        ),
        chat=ChatService(store, responder, runner, worker, limits),
        conversations=ConversationService(store, cursors),
        health=HealthService(
            store, runner, version=__version__, refuses_faults=settings.is_production
        ),
        keys=KeyService(store, cursors),
        sessions=sessions,
        turns=TurnService(store),
    )


def _secrets(settings: Settings) -> list[str]:
    """The one that signs, and the one of before, if any, that is still believed."""
    given = (settings.auth_secret, settings.auth_secret_previous)
    secrets = [secret.get_secret_value() for secret in given if secret is not None]
    return secrets if settings.auth_secret else [embedded_secret(), *secrets]


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
