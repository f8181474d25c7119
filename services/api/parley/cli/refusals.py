"""Why Parley did not do what it was asked, in words for a terminal."""

from http import HTTPStatus
from typing import Any

import httpx2

PAUSE_SECONDS = 0.5
PAUSE_SECONDS_MAX = 5.0
# Parley's own while it cannot, and those of a proxy that does not reach it.
_PASSING = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}


class Refused(Exception):
    """
    The message says why; `code` is the problem's.

    `pause_seconds` is how long to wait before asking again; None where that would change nothing.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str | None = None,
        pause_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.pause_seconds = pause_seconds


def refusal_of(answer: httpx2.Response) -> Refused:
    """An answer that has been read."""
    problem = _problem_of(answer)
    # One that names a turn is how that turn ended, and stays so.
    is_passing = answer.status_code in _PASSING and "turn_id" not in problem
    return Refused(
        _why(problem) or f"HTTP {answer.status_code}: is this Parley?",
        status=answer.status_code,
        code=problem.get("code"),
        pause_seconds=_pause_seconds(answer) if is_passing else None,
    )


def _problem_of(answer: httpx2.Response) -> dict[str, Any]:
    """Empty if it is none."""
    try:
        problem = answer.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _why(problem: dict[str, Any]) -> str | None:
    try:
        # The detail of a problem with faults is for who writes a client.
        faults = [f"{e['location'][-1]}: {e['message']}." for e in problem.get("errors", [])]
        return " ".join([f"{problem['title']}.", *(faults or [problem["detail"]])])
    except (KeyError, TypeError):
        return None


def _pause_seconds(answer: httpx2.Response) -> float:
    asked = answer.headers.get("Retry-After", "")
    return min(float(asked), PAUSE_SECONDS_MAX) if asked.isdecimal() else PAUSE_SECONDS
