"""
Answers as JSON Lines, a value a line: https://jsonlines.org

`application/jsonl` is not registered; it is what the OpenAPI Initiative's registry has for them.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog
from fastapi import Response
from starlette.types import Receive, Scope, Send

from parley.core.errors import AppError
from parley.schemas.base import Entity

log = structlog.get_logger(__name__)


class JsonLines(Response):
    """
    Asks for the next value when the client has taken the one before, or has room for it.

    What breaks off ends the connection without the last chunk (RFC 9112, 8): whoever reads it knows
    that it is not whole. For a client that has left nothing more is asked for.
    """

    media_type = "application/jsonl"

    def __init__(self, first: Entity, further: AsyncGenerator[Entity], *, filename: str) -> None:
        super().__init__(headers={"Content-Disposition": f'attachment; filename="{filename}"'})
        del self.headers["Content-Length"]
        self._first = first
        self._further = further
        self._is_taken = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, headers = self.status_code, self.raw_headers
        await send({"type": "http.response.start", "status": status, "headers": headers})
        leaving = asyncio.create_task(self._watch(receive))
        try:
            await self._write(send)
        except AppError as error:
            # Nothing more is sent, and so the server hangs up.
            log.warning("answer-broken-off", code=error.code)
        finally:
            leaving.cancel()
            # A body that is refused while it is waited for says nothing of who reads.
            await asyncio.gather(leaving, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        async with aclosing(self._further) as further:
            value: Entity | None = self._first
            while value is not None:
                line = value.model_dump_json().encode() + b"\n"
                await send({"type": "http.response.body", "body": line, "more_body": True})
                if not self._is_taken:
                    return
                value = await anext(further, None)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._is_taken = False
