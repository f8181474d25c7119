"""The one layer around the application: request id, access log, body limit, last resort."""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from time import perf_counter

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parley.core import audit
from parley.core.errors import AppError, Draining, InternalError, RouteNotFound
from parley.core.ids import new_id
from parley.core.logging import frames_of
from parley.core.security.addresses import Network, client_address

_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Asked every few seconds by whoever watches: news only when they fail.
_PROBES = ("/health", "/health/ready", "/metrics")
_DISCARDED_MAX_BYTES = 16 * 1024**2
_DISCARD_SECONDS = 5.0

log = structlog.get_logger("parley.access")


class RequestLayer:
    """
    Plain ASGI: a BaseHTTPMiddleware would cost 300 µs, hide disconnects and break streams.

    `refuse` makes the answer to an error; it is handed in because problems are another room.
    `announcements` has the headers that a route sends with every answer, also a refusal.
    A request's state carries `answer_headers`, which go on its answer whatever that is, and `at_end`,
    which is called when the answer has been sent or nobody takes it any more.
    `X-Forwarded-For` counts as far as it comes from `trusted_proxies`.
    While `is_leaving`, each answer is its connection's last: a proxy that kept one for later would
    send its next request into a connection that is being closed.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        refuse: Callable[[Scope, AppError], ASGIApp],
        announcements: Mapping[str, Callable[[Mapping[str, str]], Mapping[str, str]]],
        is_leaving: Callable[[], bool],
        request_max_bytes: int,
        trusted_proxies: Sequence[Network],
    ) -> None:
        self._app = app
        self._refuse = refuse
        self._announcements = announcements
        self._is_leaving = is_leaving
        self._request_max_bytes = request_max_bytes
        self._trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at = perf_counter()
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        peer, forwarded = scope.get("client"), headers.getlist("X-Forwarded-For")
        address = client_address(peer and peer[0], forwarded, self._trusted_proxies)
        state["client_address"] = address
        state["answer_headers"], state["at_end"] = {}, []
        audit.client_address.set(address)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        body = _Body(receive, headers, self._request_max_bytes)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = MutableHeaders(scope=message)
                answered["X-Request-ID"] = request_id
                answered.update(state["answer_headers"])
                if announce := self._announcements.get(_route_of(scope) or ""):
                    answered.update(announce(scope["path_params"]))
                if self._is_leaving():
                    answered["Connection"] = "close"
                await body.discard_rest()
            await send(message)

        try:
            await self._at(scope)(scope, body.receive, answer)
        except asyncio.CancelledError:
            if self._is_leaving() and not status:  # and the request is still on its way
                body.give_up()
                await self._refuse(scope, Draining())(scope, body.receive, answer)
            raise
        except Exception as bug:
            log.error("request-crashed", **frames_of(bug))
            if status:
                raise  # half an answer is out: the server can only hang up
            await self._refuse(scope, InternalError())(scope, body.receive, answer)
        finally:
            _let_go(scope)
            _log_access(scope, status, perf_counter() - started_at)

    def _at(self, scope: Scope) -> ASGIApp:
        # A route's pattern matches before a last line's end too. A path that a proxy keeps from the
        # internet would have a second name, which the proxy does not know.
        hidden = scope["path"].endswith("\n")
        return self._refuse(scope, RouteNotFound()) if hidden else self._app


class _Body:
    """What a client sends, up to a limit."""

    def __init__(self, receive: Receive, headers: Headers, max_bytes: int) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._received = 0
        declared = headers.get("Content-Length", "")
        self._is_too_large = declared.isdecimal() and int(declared) > max_bytes
        self._is_compressed = headers.get("Content-Encoding", "identity").lower() != "identity"
        # A client that waits to be asked for it has not sent it.
        self._is_coming = "Expect" not in headers and (
            declared not in {"", "0"} or "Transfer-Encoding" in headers
        )

    async def receive(self) -> Message:
        """Refuses while it is read, and so in the words of the route that reads it."""
        # The one exception that FastAPI lets through while it reads a body.
        if self._is_compressed:
            raise HTTPException(415)
        if self._is_too_large:
            raise HTTPException(413)
        message = await self._next()
        # Without a Content-Length it is only as large as it turns out to be.
        if self._received > self._max_bytes:
            raise HTTPException(413)
        return message

    async def discard_rest(self) -> None:
        """
        Let a client finish what it is sending before it is answered and hung up on.

        One that gets a reset while it sends may never read the answer: a proxy makes a 502 of it.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                while self._is_coming and self._received < self._max_bytes + _DISCARDED_MAX_BYTES:
                    await self._next()

    def give_up(self) -> None:
        self._is_coming = False

    async def _next(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._is_coming = self._is_coming and message.get("more_body", False)
        return message


def _let_go(scope: Scope) -> None:
    for let_go in scope["state"]["at_end"]:
        let_go()


def _log_access(scope: Scope, status: int, seconds: float) -> None:
    route = _route_of(scope)
    log.log(
        logging.DEBUG if route in _PROBES and status == HTTPStatus.OK else logging.INFO,
        "request",
        method=scope["method"],
        route=route,
        status=status,
        duration_seconds=round(seconds, 6),
        user_id=scope["state"].get("user_id"),
    )


def _route_of(scope: Scope) -> str | None:
    """The template, never the path: its ids and its secrets are the client's."""
    # An included router's `scope["route"]` knows only the part that its own router gave it.
    route = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return getattr(route, "path", None)


def _request_id(headers: Headers) -> str:
    """A well-formed one is kept, so that a proxy's and ours are the same; any other is replaced."""
    given = headers.get("X-Request-ID", "")
    return given if _WELL_FORMED.fullmatch(given) else new_id().hex
