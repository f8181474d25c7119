from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import quote


def deprecated(
    *, since: datetime, until: datetime, successor: str
) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
    """
    The headers that say, given a request's path parameters, what to use instead and until when.

    `successor` is a path with the parameters in braces. Deprecation (RFC 9745), Sunset (RFC 8594)
    and Link rel=successor-version (RFC 5829).
    """

    def announce(path_parameters: Mapping[str, str]) -> Mapping[str, str]:
        quoted = {name: quote(value, safe="") for name, value in path_parameters.items()}
        return {
            "Deprecation": f"@{int(since.timestamp())}",
            "Sunset": format_datetime(until, usegmt=True),
            "Link": f'<{successor.format(**quoted)}>; rel="successor-version"',
        }

    return announce
