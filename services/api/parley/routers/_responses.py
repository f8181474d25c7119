"""What every route says and reads the same way."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

_MEANINGS = {
    400: "The cursor is not valid.",
    401: "No valid token, or wrong credentials.",
    403: "The path names another user.",
    404: "There is none, or it is another user's: the answer is the same.",
    409: "It conflicts with what is there; `code` says with what.",
    413: "The body is too large.",
    415: "The body is compressed.",
    422: "The request is not valid; `errors` says where.",
    500: "A bug. Quote the request id when you report it.",
    502: "The model's reply broke off or made no sense.",
    503: "Something is unavailable for now; try again after `Retry-After` seconds.",
    504: "The model did not answer in time.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses=` for the problems that a route may answer with."""
    # Any request may be malformed, and any route may break.
    return {
        status: {
            "description": _MEANINGS[status],
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
        for status in sorted({*statuses, 422, 500})
    }


class _StrictRequest(Request):
    async def json(self) -> Any:
        """
        JSON as RFC 8259 has it.

        Python's own parser takes NaN, lone surrogates and any depth, which no store can keep.
        """
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            # The form in which FastAPI expects it, and answers 422. Nothing is quoted.
            reason = "not valid JSON in UTF-8"
            raise json.JSONDecodeError(reason, doc="", pos=0) from error


class JsonRoute(APIRoute):
    """A route that reads its body strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly
