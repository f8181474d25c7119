"""Who is believed, as it is set."""

from contextlib import AsyncExitStack

from parley.core.security.better_auth import SignedSessions
from parley.core.security.configured import issuers_of
from parley.core.security.passwords import Passwords
from parley.core.security.secret import embedded_secret
from parley.core.security.tokens import LocalTokens
from parley.core.settings import Settings
from parley.crud.ports import Store
from parley.dependencies.cookies import CookieRules
from parley.services.accounts import AccountService
from parley.services.authentication import Authentication
from parley.services.better_auth import BetterAuth
from parley.services.files.erasing import Eraser
from parley.services.liveness import LiveSessions
from parley.services.sessions import SessionService
from parley.wiring.back_ends import open_sessions


def authentication(
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


def account_service(
    settings: Settings,
    store: Store,
    sessions: SessionService,
    live: LiveSessions,
    eraser: Eraser,
) -> AccountService:
    return AccountService(
        store,
        sessions,
        live,
        Passwords(),
        eraser,
        registration_is_open=settings.auth_registration == "open",
    )


def session_service(
    settings: Settings, store: Store, live: LiveSessions, tokens: LocalTokens
) -> SessionService:
    return SessionService(
        store,
        tokens,
        live,
        lifetime_seconds=settings.auth_refresh_token_seconds,
        grace_seconds=settings.auth_refresh_grace_seconds,
    )


def _better_auth(settings: Settings, closing: AsyncExitStack) -> BetterAuth | None:
    if "better-auth" not in settings.auth_mode or settings.better_auth_secret is None:
        return None
    sessions = open_sessions(settings)
    closing.push_async_callback(sessions.close)
    return BetterAuth(sessions, SignedSessions(settings.better_auth_secret.get_secret_value()))


def cookies(settings: Settings) -> CookieRules | None:
    origin = settings.better_auth_origin
    if "better-auth" not in settings.auth_mode or origin is None:
        return None
    return CookieRules(
        origins=frozenset({*settings.cors_origins, origin}), is_secure=origin.startswith("https:")
    )


def secrets_of(settings: Settings) -> list[str]:
    """The one that signs, and the one of before, if any, that is still believed."""
    given = (settings.auth_secret, settings.auth_secret_previous)
    secrets = [secret.get_secret_value() for secret in given if secret is not None]
    return secrets if settings.auth_secret else [embedded_secret(), *secrets]
