"""Who is asking, and whether the path is theirs."""

from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from parley.core.errors import NotYourResource, Unauthenticated
from parley.core.security.tokens import Principal
from parley.dependencies.services import services

OWN = "me"

_bearer = HTTPBearer(
    auto_error=False,
    bearerFormat="JWT",
    description="The `access_token` that registering or logging in answered with.",
)


async def principal(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    # With two of them it would be chance which one counts here and which one in a proxy.
    if credentials is None or len(request.headers.getlist("Authorization")) > 1:
        msg = "Send one header `Authorization: Bearer <access token>`."
        raise Unauthenticated(msg)
    caller = (await services(request)).tokens.verify(credentials.credentials)
    request.state.user_id = caller.user_id
    return caller


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
        raise NotYourResource
    return caller.user_id


UserId = Annotated[str, Depends(user_id)]
Owner = Annotated[str, Depends(owner)]
