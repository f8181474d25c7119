"""The body of a request, up to a limit and in time."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import NamedTuple, NoReturn

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from parley.core.errors import AppError, BodyTimeout, BodyTooLarge, UnsupportedEncoding

_DISCARDED_MAX_BYTES = 16 * 1024**2
_DISCARD_SECONDS = 5.0


class Allowance(NamedTuple):
    """
    How large a body may be, and how long it may be waited for: `seconds` altogether, or as many at once
    of one that comes at `bytes_per_second`. `refusal` is of one that is larger.
    """

    max_bytes: int
    seconds: float
    bytes_per_second: float = inf
    refusal: Callable[[], AppError] = BodyTooLarge


class Body:
    """
    What a client sends, as far as it is allowed.

    The time in which nobody waits for it is not the client's.
    """

    def __init__(
        self, scope: Scope, receive: Receive, headers: Headers, allowance: Allowance
    ) -> None:
        self._state = scope["state"]
        self._receive = receive
        self._allowance = allowance
        self._seconds = allowance.seconds
        self._received = 0
        declared = headers.get("Content-Length", "")
        self._is_too_large = declared.isdecimal() and int(declared) > allowance.max_bytes
        self._is_compressed = any(
            coding.strip().lower() != "identity"
            for header in headers.getlist("Content-Encoding")
            for coding in header.split(",")
        )
        self._is_whole = declared in {"", "0"} and "Transfer-Encoding" not in headers
        # A client that waits to be asked for it has not sent it.
        self._is_coming = not self._is_whole and "Expect" not in headers

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it is still to come."""
        return self._is_whole

    async def receive(self) -> Message:
        """Refuses while it is read, and so in the words of the route that reads it."""
        if self._is_compressed:
            self._refuse(UnsupportedEncoding())
        if self._is_too_large:
            self._refuse(self._allowance.refusal())
        if self._is_whole:  # what comes now is that the client leaves
            return await self._receive()
        try:
            message = await self._in_time()
        except TimeoutError:
            self.give_up()
            self._refuse(BodyTimeout())
        # Without a Content-Length it is only as large as it turns out to be.
        if self._received > self._allowance.max_bytes:
            self._refuse(self._allowance.refusal())
        if broken := self._state.get("refusal"):  # the server could not read it
            self._refuse(broken)
        return message

    async def discard_rest(self) -> None:
        """
        Let a client finish what it is sending before it is answered and hung up on.

        One that gets a reset while it sends may never read the answer: a proxy makes a 502 of it.
        """
        most = self._allowance.max_bytes + _DISCARDED_MAX_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                while self._is_coming and self._received < most:
                    await self._next()

    def give_up(self) -> None:
        self._is_coming = False

    async def _in_time(self) -> Message:
        clock = asyncio.get_running_loop().time
        began_at = clock()
        async with asyncio.timeout(self._seconds):
            message = await self._next()
        self._seconds -= clock() - began_at
        earned = len(message.get("body", b"")) / self._allowance.bytes_per_second
        self._seconds = min(self._seconds + earned, self._allowance.seconds)
        return message

    async def _next(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        self._is_coming = not self._is_whole
        return message

    def _refuse(self, error: AppError) -> NoReturn:
        self._state["refusal"] = error
        # The one exception that FastAPI lets through while it reads a body.
        raise HTTPException(error.status)
