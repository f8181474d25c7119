"""The one layer around the application: request id, access log, body limit, last resort."""

import re
from collections.abc import Callable
from time import perf_counter

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parley.core.errors import AppError, BodyTooLarge, InternalError, UnsupportedEncoding
from parley.core.ids import new_id
from parley.core.logging import frames_of

_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = structlog.get_logger("parley.access")


class RequestLayer:
    """
    Plain ASGI: a BaseHTTPMiddleware would cost 300 µs, hide disconnects and break streams.

    `refuse` makes the answer to an error; it is handed in because problems are another room.
    """

    def __init__(
        self, app: ASGIApp, *, refuse: Callable[[Scope, AppError], ASGIApp], request_max_bytes: int
    ) -> None:
        self._app = app
        self._refuse = refuse
        self._request_max_bytes = request_max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at = perf_counter()
        request_id = _request_id(Headers(scope=scope))
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers.update(state.get("announced_headers", {}))
            await send(message)

        try:
            await self._pass_on(scope, receive, answer)
        except Exception as bug:
            log.error("request-crashed", **frames_of(bug))
            if status:
                raise  # half an answer is out: the server can only hang up
            await self._refuse(scope, InternalError())(scope, receive, answer)
        finally:
            log.info(
                "request",
                method=scope["method"],
                route=_route_of(scope),
                status=status,
                duration_seconds=round(perf_counter() - started_at, 6),
                user_id=state.get("user_id"),
            )

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if headers.get("Content-Encoding", "identity") != "identity":
            await self._refuse(scope, UnsupportedEncoding())(scope, receive, send)
        elif int(headers.get("Content-Length", "0")) > self._request_max_bytes:
            await self._refuse(scope, BodyTooLarge())(scope, receive, send)
        else:
            await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        """A body without a Content-Length is only as large as it turns out to be."""
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._request_max_bytes:
                # The one exception that FastAPI lets through while it reads a body.
                raise HTTPException(413)
            return message

        return receive_counted


def _route_of(scope: Scope) -> str | None:
    """The template, never the path: its ids and its secrets are the client's."""
    # `scope["route"]` knows only the part that its own router gave it.
    context = scope.get("fastapi", {}).get("effective_route_context")
    return getattr(context, "path", None)


def _request_id(headers: Headers) -> str:
    """A well-formed one is kept, so that a proxy's and ours are the same; any other is replaced."""
    given = headers.get("X-Request-ID", "")
    return given if _WELL_FORMED.fullmatch(given) else new_id().hex
