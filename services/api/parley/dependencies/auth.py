"""Who is asking, and whether the path is theirs."""

from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from parley.core import audit
from parley.core.audit import Event
from parley.core.errors import (
    NotYourResource,
    OriginRefused,
    SessionRequired,
    TokenRefused,
    Unauthenticated,
)
from parley.core.security.better_auth import COOKIE, SECURE_COOKIE
from parley.core.security.tokens import Principal
from parley.dependencies.cookies import CookieRules
from parley.dependencies.services import services

OWN = "me"

_bearer = HTTPBearer(
    auto_error=False,
    description="The `access_token` that registering or logging in answered with, or an API key; where"
    " AUTH_MODE says so, another issuer's access token, or Better Auth's signed session token.",
)
# For OpenAPI; what counts of it is for `CookieRules` to say.
_cookie = APIKeyCookie(
    name=COOKIE,
    scheme_name="BetterAuthCookie",
    auto_error=False,
    description="Better Auth's, where AUTH_MODE has `better-auth`, from a page that CORS_ORIGINS names;"
    f" `{SECURE_COOKIE}` where it is under https.",
)


async def authenticate(request: Request) -> Principal:
    """
    Whoever the request's token or cookie speaks for; asked for once, however often it is needed.

    Raises:
        Unauthenticated: nobody who is believed here.
        OriginRefused: a cookie, and a page that it is not for.
    """
    known: Principal | None = getattr(request.state, "principal", None)
    if known is not None:
        return known
    wired = await services(request)
    session = _session(request, wired.cookies)
    if session is None:
        verified = wired.authentication.of_bearer(_token(request, await _bearer(request)))
    else:
        verified = wired.authentication.of_session(session)
    try:
        caller = await verified
    except TokenRefused as refusal:
        audit.record(Event.TOKEN_REFUSED, None, reason=refusal.reason)
        raise
    request.state.principal, request.state.user_id = caller, caller.user_id
    return caller


async def principal(
    request: Request,
    _: Annotated[object, Depends(_bearer)],
    __: Annotated[object, Depends(_cookie)],
) -> Principal:
    """The parameters are for OpenAPI, which then says that one of the two is wanted."""
    return await authenticate(request)


def _session(request: Request, rules: CookieRules | None) -> str | None:
    try:
        return None if rules is None else rules.session_of(request)
    except OriginRefused:
        audit.record(Event.ACCESS_REFUSED, None)
        raise


def _token(request: Request, credentials: HTTPAuthorizationCredentials | None) -> str:
    # With two of them it would be chance which one counts here and which one in a proxy.
    if credentials is None or len(request.headers.getlist("Authorization")) > 1:
        msg = "Send one header `Authorization: Bearer <access token>`."
        raise Unauthenticated(msg)
    return credentials.credentials


async def user_id(caller: Annotated[Principal, Depends(principal)]) -> str:
    return caller.user_id


async def owner(
    caller: Annotated[Principal, Depends(principal)],
    path_user_id: Annotated[
        str,
        Path(
            alias="user_id",
            pattern="^[A-Za-z0-9_-]{1,64}$",
            description="The token's own user; `me` is short for it.",
            examples=["me"],
        ),
    ],
) -> str:
    """The path's user, once the token has proved to be theirs."""
    if path_user_id not in (OWN, caller.user_id):
        audit.record(Event.ACCESS_REFUSED, caller.user_id)
        raise NotYourResource
    return caller.user_id


async def session_user_id(caller: Annotated[Principal, Depends(principal)]) -> str:
    """
    Who has logged in here; neither an API key nor another issuer's token will do.

    A key that leaked cannot make itself another, nor take the account from its owner.
    """
    if caller.session_id is None:
        audit.record(Event.ACCESS_REFUSED, caller.user_id)
        raise SessionRequired
    return caller.user_id


async def no_key(caller: Annotated[Principal, Depends(principal)]) -> Principal:
    """Anybody but an API key, whichever issuer's user that is."""
    if caller.is_key:
        audit.record(Event.ACCESS_REFUSED, caller.user_id)
        raise SessionRequired
    return caller


Caller = Annotated[Principal, Depends(principal)]
UserId = Annotated[str, Depends(user_id)]
Owner = Annotated[str, Depends(owner)]
NoKey = Annotated[Principal, Depends(no_key)]
SessionUserId = Annotated[str, Depends(session_user_id)]
