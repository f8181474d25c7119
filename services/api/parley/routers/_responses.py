"""What every route says and reads the same way."""

import json
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses=` for the problems that a route may answer with."""
    # Any request may be malformed, and any route may break.
    return {
        status: {
            "description": HTTPStatus(status).phrase,
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
