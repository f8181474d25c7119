"""The one layer around the application: what each request meets first, and each answer last."""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from time import perf_counter

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parley.core import audit
from parley.core.errors import AppError, Draining, InternalError, RouteNotFound
from parley.core.ids import new_id
from parley.core.logging import frames_of
from parley.core.security.addresses import Network, client_address
from parley.middleware.body import Allowance, Body
from parley.middleware.cors import Cors
from parley.middleware.hosts import Hosts

_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Asked every few seconds by whoever watches: news only when they fail.
_PROBES = ("/health", "/health/ready", "/metrics")
# Where a route has not said otherwise. What it answers is a user's, and no page: nothing of it may
# run, be framed, be guessed at or be kept (ASVS 5, V3.2, V3.4 and V14.3).
_GUARDS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]

log = structlog.get_logger("parley.access")


class RequestLayer:
    """
    Plain ASGI: a BaseHTTPMiddleware would cost 300 µs, hide disconnects and break streams.

    `refuse` makes the answer to an error; it is handed in because problems are another room.
    A body may be as its `allowance` says, or that of its method and path in `allowances`.
    `announcements` has the headers that a route sends with every answer, also a refusal.
    A request's state carries `answer_headers`, which go on its answer whatever that is, and `at_end`,
    which is called when the answer has been sent or nobody takes it any more.
    `X-Forwarded-For` counts as far as it comes from `trusted_proxies`.
    What the server could not read it says in `scope["state"]["refusal"]`.
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
        cors: Cors,
        hosts: Hosts,
        allowance: Allowance,
        allowances: Mapping[tuple[str, str], Allowance],
        trusted_proxies: Sequence[Network],
    ) -> None:
        self._app = app
        self._refuse = refuse
        self._announcements = announcements
        self._is_leaving = is_leaving
        self._cors = cors
        self._hosts = hosts
        self._allowance = allowance
        self._allowances = allowances
        self._trusted_proxies = trusted_proxies
        self._wonders_about_proxies = not trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at = perf_counter()
        headers = Headers(scope=scope)
        self._introduce(scope, headers)
        allowance = self._allowances.get((scope["method"], scope["path"]), self._allowance)
        body = Body(scope, receive, headers, allowance)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                await body.discard_rest()
                answered = MutableHeaders(scope=message)
                self._announce(scope, headers, answered)
                # Who is refused before there is a whole request may send anything next, or for ever.
                if self._is_leaving() or "refusal" in scope["state"] or not body.is_whole:
                    answered["Connection"] = "close"
            await send(message)

        try:
            await self._at(scope, headers)(scope, body.receive, answer)
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

    def _introduce(self, scope: Scope, headers: Headers) -> None:
        """What all that follows, and the log, know of the request."""
        request_id = _request_id(headers)
        peer, forwarded = scope.get("client"), headers.getlist("X-Forwarded-For")
        address = client_address(peer and peer[0], forwarded, self._trusted_proxies)
        scope.setdefault("state", {}).update(
            request_id=request_id, client_address=address, answer_headers={}, at_end=[]
        )
        audit.client_address.set(address)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        if forwarded and self._wonders_about_proxies:
            # Once: most likely a proxy, all of whose clients count as one.
            self._wonders_about_proxies = False
            log.warning("forwarded-for-ignored", peer=address, set="TRUSTED_PROXIES")

    def _at(self, scope: Scope, headers: Headers) -> ASGIApp:
        # A route's pattern matches before a last line's end too. A path that a proxy keeps from the
        # internet would have a second name, which the proxy does not know.
        hidden = RouteNotFound() if scope["path"].endswith("\n") else None
        unread = scope["state"].get("refusal")
        if refusal := unread or self._hosts.refusal(scope, headers) or hidden:
            scope["state"]["refusal"] = refusal
            return self._refuse(scope, refusal)
        return self._cors.preflight(scope, headers) or self._app

    def _announce(self, scope: Scope, headers: Headers, answered: MutableHeaders) -> None:
        said = {name for name, _ in answered.raw}
        answered.raw.extend(guard for guard in _GUARDS if guard[0] not in said)
        answered["X-Request-ID"] = scope["state"]["request_id"]
        answered.update(scope["state"]["answer_headers"])
        self._cors.announce(headers, answered)
        if announce := self._announcements.get(_route_of(scope) or ""):
            answered.update(announce(scope["path_params"]))


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
