"""What every route says and reads the same way."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic_core import from_json

from parley.core.errors import (
    AppError,
    BodyTimeout,
    BodyTooLarge,
    DatabaseUnavailable,
    HeadersTooLarge,
    InternalError,
    InvalidRequest,
    IssuerUnavailable,
    MalformedRequest,
    OriginRefused,
    Overloaded,
    TooManyMembers,
    Unauthenticated,
    UnsupportedEncoding,
    UntrustedHost,
)
from parley.dependencies.auth import authenticate, principal

TOKEN = (Unauthenticated, OriginRefused, IssuerUnavailable)
BODY = (BodyTimeout, BodyTooLarge, UnsupportedEncoding)
STORE = (DatabaseUnavailable, Overloaded)
"""What every route may answer that wants a token, reads a body, or asks the store."""

_ALWAYS: tuple[type[AppError], ...] = (
    MalformedRequest,
    UntrustedHost,
    InvalidRequest,
    HeadersTooLarge,
    InternalError,
)
"""Any request may be refused before there is a route, and any route may break."""

MEMBERS_MAX = 50
"""Of a body. Ninety thousand unknown ones take a second to be refused one by one."""

_HEADERS = {
    401: {
        "WWW-Authenticate": '`Bearer`, and `error="invalid_token"` where one came (RFC 6750, 3).'
    },
    429: {
        "Retry-After": "Seconds until the next one is admitted.",
        "RateLimit-Policy": "What is allowed: `q` of them in `w` seconds, for each limit. On every"
        " answer that was counted. (draft-ietf-httpapi-ratelimit-headers-10)",
        "RateLimit": "What is left: `r` of them, and one more in `t` seconds. As often.",
    },
    503: {"Retry-After": "Seconds to wait before trying again."},
}


def problems(*errors: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses=` for the errors that a route may answer with."""
    by_status: dict[int, list[type[AppError]]] = {}
    for error in errors + _ALWAYS:
        by_status.setdefault(error.status, []).append(error)
    return {status: _response(status, by_status[status]) for status in sorted(by_status)}


def _response(status: int, errors: list[type[AppError]]) -> dict[str, Any]:
    first = errors[0]
    example = {
        "type": f"/problems/{first.code}",
        "title": first.title,
        "status": status,
        "detail": "What happened, and what to do.",
        "code": first.code,
        "instance": "/api/v1/me/chat",
        "request_id": "0193497d8a7d7c0bb4f6d1f0a4a7ce55",
    }
    headers = {"X-Request-ID": "The request's id; the log has it too."} | _HEADERS.get(status, {})
    return {
        "description": "\n".join(f"- `{error.code}`: {error.title}." for error in errors),
        "headers": {
            name: {"description": meaning, "schema": {"type": "string"}}
            for name, meaning in headers.items()
        },
        "content": {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": example,
            }
        },
    }


class _StrictRequest(Request):
    async def json(self) -> Any:
        """
        JSON as RFC 8259 has it.

        Python's own parser takes NaN, lone surrogates and any depth, which no store can keep.
        """
        try:
            body = from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            # The form in which FastAPI expects it, and answers 422. Nothing is quoted.
            reason = "not valid JSON in UTF-8"
            raise json.JSONDecodeError(reason, doc="", pos=0) from error
        if isinstance(body, dict) and len(body) > MEMBERS_MAX:
            # What else is raised while a body is read, FastAPI makes a plain 400.
            self.state.refusal = TooManyMembers()
            raise HTTPException(self.state.refusal.status)
        return body


class JsonRoute(APIRoute):
    """A route that reads its body strictly, and no body of somebody who is not known."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        wants_token = _depends_on(principal, self.dependant)

        async def strictly(request: Request) -> Response:
            if wants_token:
                # FastAPI would read and parse the body first.
                await authenticate(request)
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


def _depends_on(call: Callable[..., Any], dependant: Dependant) -> bool:
    return dependant.call is call or any(
        _depends_on(call, further) for further in dependant.dependencies
    )
