"""AppError -> RFC 9457. The only code that knows both."""

from collections.abc import Callable
from http import HTTPMethod, HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from parley.core.errors import (
    AppError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    RangeNotSatisfiable,
    RouteNotFound,
    Unauthenticated,
)
from parley.schemas.problem import Fault, Problem

FAULTS_MAX = 20
LOCATION_CHARACTERS_MAX = 100

# What the framework itself refuses, in our words.
_FRAMEWORK: dict[int, Callable[[], AppError]] = {
    400: InvalidRequest,
    404: RouteNotFound,
    405: MethodNotAllowed,
}


def response_for(scope: Scope, error: AppError, *, faults: list[Fault] | None = None) -> Response:
    problem = Problem.model_validate(
        error.members
        | {
            "instance": scope["path"],
            "request_id": scope["state"]["request_id"],
            "errors": faults,
        }
    )
    response = Response(
        problem.model_dump_json(),
        status_code=error.status,
        media_type="application/problem+json",
    )
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = error.challenge
    if isinstance(error, RangeNotSatisfiable):
        response.headers["Content-Range"] = f"bytes */{error.size}"
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


async def _app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)  # noqa: S101 - narrows for the type checker
    return response_for(request.scope, error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    faults = [
        Fault(
            location=[_shortened(step) for step in fault["loc"]],
            message=fault["msg"],
            code=fault["type"].replace("_", "-"),
        )
        for fault in error.errors()[:FAULTS_MAX]
    ]
    return response_for(request.scope, InvalidRequest(), faults=faults)


async def _refused_by_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    # While a body is read, the layer around us can only raise what the framework lets through.
    refusal = request.scope["state"].get("refusal")
    told = refusal or _FRAMEWORK.get(error.status_code, InternalError)()
    response = response_for(request.scope, told)
    response.headers.update(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(_methods_of(request))
    return response


def _methods_of(request: Request) -> list[str]:
    """All of the path's (RFC 9110, 15.5.6): the framework names those of its first route only."""
    asked = {name: request.scope[name] for name in ("type", "app", "path", "root_path", "headers")}
    return [
        method
        for method in HTTPMethod
        if any(
            route.matches(asked | {"method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


def _shortened(step: str | int) -> str | int:
    # The name of an unknown field is the client's, of any length.
    return step if isinstance(step, int) else step[:LOCATION_CHARACTERS_MAX]


def install(app: FastAPI) -> None:
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused_by_framework)
