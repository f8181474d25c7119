from collections.abc import Awaitable, Callable
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import quote

from fastapi import Request


def deprecated(
    *, since: datetime, until: datetime, successor: str
) -> Callable[[Request], Awaitable[None]]:
    """
    A dependency that says on every answer what to use instead, and until when this works.

    `successor` is a path, with the request's path parameters in braces. Deprecation (RFC 9745),
    Sunset (RFC 8594) and Link rel=successor-version (RFC 5829).
    """

    async def announce(request: Request) -> None:
        parameters = {name: quote(value, safe="") for name, value in request.path_params.items()}
        path = successor.format(**parameters)
        # Not on the response: an error has one of its own.
        request.state.announced_headers = {
            "Deprecation": f"@{int(since.timestamp())}",
            "Sunset": format_datetime(until, usegmt=True),
            "Link": f'<{path}>; rel="successor-version"',
        }

    return announce
