"""The application: what `wiring` makes, behind its routes and its one layer."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from fastapi import FastAPI

from parley import __version__, middleware, problems
from parley.core.errors import FileTooLarge
from parley.core.logging import configure_logging, frames_of
from parley.core.settings import InvalidSettings, Settings, load_settings
from parley.crud.ports import Store
from parley.dependencies.services import Services
from parley.routers import auth, chat, conversations, docs, files, health, keys, me, metrics, turns
from parley.routers._deprecation import deprecated
from parley.routers._uploads import FORM_BYTES_MAX
from parley.schemas.health import Readiness
from parley.services.responders.base import Responder
from parley.services.turns.runner import TurnRunner
from parley.services.workers import Worker
from parley.wiring import open_responder, open_store, services_of

TITLE = "Parley"
DESCRIPTION = """
A self-hosted chat backend: who is speaking, what was said before, one reply and not two.

Register or log in for an access token, send it as `Authorization: Bearer …`, and chat.
Every error is a problem (RFC 9457); branch on its `code`.
"""
TAGS = [
    {"name": "chat", "description": "Send a message, get a reply; both are recorded, or neither."},
    {"name": "conversations", "description": "What was said, and what the model is told first."},
    {"name": "files", "description": "What is attached to messages. Nobody else gets it."},
    {"name": "accounts", "description": "Accounts that Parley keeps itself."},
    {"name": "health", "description": "For probes and status pages; no token needed."},
]
ALIAS = "/api/{user_id}/chat"
ALIAS_DEPRECATED = deprecated(
    since=datetime(2026, 11, 21, tzinfo=UTC),
    until=datetime(2027, 11, 21, tzinfo=UTC),
    successor="/api/v1/{user_id}/chat",
)

# Of the database's own time, which may be a minute: whoever probes whether this has started waits less.
START_SECONDS = 10.0
# A telephone on a bad line sends more.
SLOWEST_UPLOAD_BYTES_PER_SECOND = 32 * 1024

log = structlog.get_logger(__name__)


class DatabaseRefused(Exception):
    """In production this database must not be used so; the log says why, a line a fault."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


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
    responder = responder or open_responder(settings, closing)
    app.state.services = services_of(settings, store, responder, runner, worker, closing=closing)
    _include_routers(app, has_local_accounts="local" in settings.auth_mode)
    problems.install(app)
    metrics.install(app)
    _add_layer(app, settings, runner)
    return app


def _add_layer(app: FastAPI, settings: Settings, runner: TurnRunner) -> None:
    app.add_middleware(
        middleware.RequestLayer,
        refuse=problems.response_for,
        announcements={ALIAS: ALIAS_DEPRECATED},
        is_leaving=lambda: runner.is_draining,
        cors=middleware.Cors(
            settings.cors_origins, with_credentials="better-auth" in settings.auth_mode
        ),
        hosts=middleware.Hosts(_hosts(settings)),
        allowance=middleware.Allowance(settings.request_max_bytes, settings.body_timeout_seconds),
        allowances={("POST", f"/api/v1{files.UPLOAD_PATH}"): _upload_allowance(settings)},
        trusted_proxies=settings.trusted_proxies,
    )


def _upload_allowance(settings: Settings) -> middleware.Allowance:
    return middleware.Allowance(
        settings.upload_max_bytes + FORM_BYTES_MAX,
        settings.body_timeout_seconds,
        SLOWEST_UPLOAD_BYTES_PER_SECOND,
        partial(FileTooLarge, settings.upload_max_bytes),
    )


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
            for background in (worker, services.streams, services.relay, services.cancels):
                background.start()
                closing.push_async_callback(background.stop)
            state = (await _look_around(services)).model_dump()
            log.info("started", responder=settings.responder, **state)
            yield
            await runner.stop(grace_seconds=settings.shutdown_grace_seconds)
            await closing.aclose()
        except DatabaseRefused:
            await closing.aclose()
            raise
        except Exception as bug:  # noqa: BLE001 - told on, without what it quotes
            log.error("lifespan-crashed", **frames_of(bug))
            # The server logs what it gets, with all that it quotes.
            msg = "The application could not start or stop; the log says where."
            raise RuntimeError(msg) from None

    return lifespan


async def _look_around(services: Services) -> Readiness:
    """
    Raises:
        DatabaseRefused: it answers, and must not be used so.
    """
    found = "disconnected"
    with suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            found = await services.health.examine()
    readiness = await services.health.ready()
    if "refused" in (found, readiness.database):
        raise DatabaseRefused
    return readiness


def _include_routers(app: FastAPI, *, has_local_accounts: bool) -> None:
    # Hot routes first: each one before costs a match.
    app.include_router(chat.router, prefix="/api/v1")
    app.include_router(health.router)
    app.include_router(conversations.router, prefix="/api/v1")
    app.include_router(chat.regenerating, prefix="/api/v1")
    app.include_router(turns.router, prefix="/api/v1")
    app.include_router(files.router, prefix="/api/v1")
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
