"""The issuers that the settings name."""

from contextlib import AsyncExitStack

from parley.core.security.issuers import better_auth_keys_url, better_auth_tokens, oidc_tokens
from parley.core.security.jwks import Jwks
from parley.core.security.keys import KeyCache
from parley.core.security.tokens import TokenVerifier
from parley.core.settings import Settings


def issuers_of(settings: Settings, closing: AsyncExitStack) -> dict[str, TokenVerifier]:
    """Those that AUTH_MODE names besides Parley itself, by the `iss` of their tokens."""
    issuers: dict[str, TokenVerifier] = {}
    urls = keys_urls_of(settings)
    issuer, audience = settings.auth_issuer, settings.auth_audience
    if (url := urls.get("jwks")) and issuer and audience:
        issuers[issuer] = oidc_tokens(_keys(url, closing), issuer=issuer, audience=audience)
    origin = settings.better_auth_origin
    if (url := urls.get("better-auth")) and origin:
        issuers[origin] = better_auth_tokens(_keys(url, closing), origin=origin)
    return issuers


def keys_urls_of(settings: Settings) -> dict[str, str]:
    """Where they have their keys, by mode."""
    urls = {}
    if "jwks" in settings.auth_mode and settings.auth_jwks_url:
        urls["jwks"] = settings.auth_jwks_url
    if "better-auth" in settings.auth_mode and settings.better_auth_url:
        urls["better-auth"] = better_auth_keys_url(settings.better_auth_url)
    return urls


def _keys(url: str, closing: AsyncExitStack) -> KeyCache:
    jwks = Jwks(url)
    keys = KeyCache(jwks.fetch)
    closing.push_async_callback(jwks.close)
    closing.push_async_callback(keys.close)
    return keys
