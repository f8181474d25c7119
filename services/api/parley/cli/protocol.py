"""
HTTP/1.1 as it comes in (RFC 9112): what is no request, or too much of one, gets no further.

The parser is llhttp, which refuses what proxies read in different ways: two lengths, a length beside
chunks, folded lines, a line's end without its CR. What it lets through, and uvicorn too, ends here.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from parley.core.errors import AppError, HeadersTooLarge, MalformedRequest

HEAD_MAX_BYTES = 32 * 1024
HEADERS_MAX = 100
HEAD_SECONDS = 10.0
LINGER_SECONDS = 5.0
WRITE_STALL_SECONDS = 30.0


class _Part(Enum):
    """Where the parser stands in what it reads."""

    BETWEEN = auto()
    HEAD = auto()
    BODY = auto()


class BoundedProtocol(HttpToolsProtocol):
    """
    uvicorn's, with an end to what a client may send before there is a request, and to how slowly.

    A refusal is an answer of the application's, which finds it in `scope["state"]["refusal"]`: it
    has a request id and a line in the log. The connection ends with it.
    Who has not sent a whole head after HEAD_SECONDS is hung up on without a word; who takes nothing
    of an answer for WRITE_STALL_SECONDS is cut off.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._part = _Part.BETWEEN
        self._head_bytes = 0
        # What the parser keeps and has told nobody of yet.
        self._unread_bytes = 0
        self._has_refused = False
        self._fault: AppError = MalformedRequest()
        self._waiting: asyncio.TimerHandle | None = None
        self._running: list[RequestResponseCycle] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._stall = _Stall(transport, self.loop)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stall.rest()
        super().connection_lost(exc)
        # uvicorn tells the request that was read last; the one that runs may be before it.
        for cycle in self._running:
            cycle.disconnected = True
            cycle.message_event.set()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        # A connection that closes waits for the rest to be taken.
        if not self.transport.is_closing():
            self._stall.rest()

    def timeout_keep_alive_handler(self) -> None:
        # Also behind one that lingers.
        self._close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._stall.watch()

    def data_received(self, data: bytes) -> None:
        if self._has_refused:
            return
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > HEAD_MAX_BYTES and not self._has_refused:
            self._fault = HeadersTooLarge()
            self.send_400_response("")
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if self._part is _Part.HEAD or (self._part is _Part.BETWEEN and not is_answering):
            self._wait_for_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part = _Part.HEAD
        self._head_bytes = self._unread_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._read(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._read(len(name) + len(": \r\n") + len(value))
        # Behind the body it is a trailer, which must not pass for a header (RFC 9110, 6.5.1).
        if self._part is _Part.HEAD:
            super().on_header(name, value)
            if len(self.headers) > HEADERS_MAX:
                self._refuse(HeadersTooLarge())

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._check_head()
        super().on_headers_complete()
        self._remember(self.cycle)
        self._part = _Part.BODY
        if self.parser.should_upgrade():
            # To nothing that is spoken here, and llhttp reads no further than this request.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._part = _Part.BETWEEN
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._has_refused = True
        self._stop_waiting()
        if self._part is _Part.BODY:
            self._break_off()
        else:
            self._answer_head()
        self.flow.resume_reading()

    def _remember(self, cycle: RequestResponseCycle) -> None:
        self._running = [other for other in self._running if not other.response_complete]
        self._running.append(cycle)

    def _read(self, count: int) -> None:
        self._unread_bytes = 0
        self._head_bytes += count
        if self._head_bytes > HEAD_MAX_BYTES:
            self._refuse(HeadersTooLarge())

    def _refuse(self, fault: AppError) -> None:
        self._fault = fault
        # The parser stops at it, and uvicorn asks for the answer to a bad request.
        raise fault

    def _check_head(self) -> None:
        """
        Raises:
            MalformedRequest: llhttp takes it, and whoever stands before us might read it otherwise.
        """
        version = self.parser.get_http_version()
        encodings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if (
            version not in {"1.0", "1.1"}
            # Another coding under the chunks is not undone here; 1.0 knows no chunks at all.
            or encodings not in ([], [b"chunked"])
            or (encodings and version == "1.0")
            # A target for proxies, or with a part that no client sends.
            or not self.url.startswith(b"/")
            or b"#" in self.url
        ):
            raise MalformedRequest

    def _answer_head(self) -> None:
        """Like a request, and so behind those that still run."""
        if self._part is _Part.BETWEEN:
            self.on_message_begin()
        has_method = bool(self.url)
        self.url = b"/"
        super().on_headers_complete()
        self._remember(self.cycle)
        if not has_method:
            self.scope["method"] = ""
        self._end(self.cycle)

    def _break_off(self) -> None:
        """The application has begun to read a body that goes wrong."""
        if self.cycle.response_complete:
            self._close()
        else:
            self._end(self.cycle)

    def _end(self, cycle: RequestResponseCycle) -> None:
        cycle.scope["state"]["refusal"] = self._fault
        cycle.keep_alive = cycle.more_body = False
        cycle.transport = _Lingering(self.transport, self.loop, self._close)  # type: ignore[assignment]
        cycle.message_event.set()

    def _wait_for_head(self) -> None:
        if self._waiting is None and not self.transport.is_closing() and not self._has_refused:
            self._waiting = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _hang_up(self) -> None:
        self._waiting = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_for_head()  # an answer is still on its way
        else:
            self._close()

    def _close(self) -> None:
        """When the rest has been taken, if somebody takes it."""
        self.transport.close()
        self._stall.watch()


class _Lingering:
    """
    Hangs up in two steps (RFC 9112, 9.6).

    A connection that is closed while the other side still sends is reset, and a reset may overtake
    the answer.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        hang_up: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._hang_up = hang_up
        self.write = transport.write
        self.is_closing = transport.is_closing

    def close(self) -> None:
        if not self._transport.is_closing():
            self._transport.write_eof()
            self._loop.call_later(LINGER_SECONDS, self._hang_up)


class _Stall:
    """
    Cuts off who takes nothing of what is sent: until then it stays in memory.

    It looks only while nothing is written. What is left can then but become less, and does so for a
    slow client too.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._looking: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        left = self._transport.get_write_buffer_size()
        if left and self._looking is None:
            self._looking = self._loop.call_later(WRITE_STALL_SECONDS, self._look, left)

    def rest(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _look(self, left: int) -> None:
        self._looking = None
        if self._transport.get_write_buffer_size() < left:
            self.watch()
        else:
            self._cut_off()

    def _cut_off(self) -> None:
        # By a reset: after a mere end the kernel keeps its own part of the answer for minutes more.
        connection = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
