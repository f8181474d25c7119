"""Answers that are sent as they are read, as fast as the client takes them."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import structlog
from fastapi import Response
from starlette.types import Receive, Scope, Send

from parley.core.errors import AppError

log = structlog.get_logger(__name__)


class Streamed(Response):
    """
    Asks for the next piece when the client has taken the one before, or has room for it.

    What breaks off ends the connection before its end (RFC 9112, 8): whoever reads it knows that it
    is not whole. For a client that has left nothing more is asked for. Who has the first piece knows
    that there is no refusal. Without `size` nobody knows before its end how many bytes there are.
    """

    def __init__(
        self,
        first: bytes,
        further: AsyncGenerator[bytes],
        *,
        headers: Mapping[str, str],
        status_code: int = 200,
        size: int | None = None,
    ) -> None:
        super().__init__(headers=headers, status_code=status_code)
        del self.headers["Content-Length"]
        if size is not None:
            self.headers["Content-Length"] = str(size)
        self._first = first
        self._further = further
        self._is_taken = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._further):
            await self._answer(receive, send)

    async def _answer(self, receive: Receive, send: Send) -> None:
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
        piece: bytes | None = self._first
        while piece is not None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if not self._is_taken:
                return
            piece = await anext(self._further, None)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._is_taken = False
