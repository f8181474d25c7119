"""Everything that is asked of the floors below, made of what the settings say."""

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from parley import __version__
from parley.core.database import create_engine
from parley.core.security.better_auth import SignedSessions
from parley.core.security.configured import issuers_of
from parley.core.security.cursors import Cursors
from parley.core.security.passwords import Passwords
from parley.core.security.secret import derive_key, embedded_secret
from parley.core.security.tokens import LocalTokens
from parley.core.settings import Settings
from parley.crud.memory.limits import MemoryLimiter
from parley.crud.ports import BetterAuthSessions, Store
from parley.crud.sql.better_auth import SqlBetterAuthSessions
from parley.crud.sql.database import SqlDatabase
from parley.crud.sql.store import SqlStore
from parley.dependencies.cookies import CookieRules
from parley.dependencies.services import Services
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
    database = SqlDatabase(engine, timeout_seconds=settings.database_timeout_seconds)
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
        authentication=_authentication(settings, store, live, tokens, closing),
        chat=ChatService(store, responder, runner, worker, _turn_limits(settings)),
        conversations=ConversationService(store, cursors),
        cookies=_cookies(settings),
        health=HealthService(
            store, runner, version=__version__, refuses_faults=settings.is_production
        ),
        keys=KeyService(store, cursors),
        limits=_rate_limits(settings, shared, derive_key(secrets[0], "limits")),
        sessions=sessions,
        shared=shared,
        streams=StreamService(shared, max_per_user=settings.streams_max_per_user),
        turns=TurnService(store),
    )


def _authentication(
    settings: Settings,
    store: Store,
    live: LiveSessions,
    tokens: LocalTokens,
    closing: AsyncExitStack,
) -> Authentication:
    return Authentication(
        store,
        live,
        local=tokens if "local" in settings.auth_mode else None,
        issuers=issuers_of(settings, closing),
        better_auth=_better_auth(settings, closing),
    )


def _better_auth(settings: Settings, closing: AsyncExitStack) -> BetterAuth | None:
    if "better-auth" not in settings.auth_mode or settings.better_auth_secret is None:
        return None
    sessions = open_sessions(settings)
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
        models=settings.offered_models,
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
