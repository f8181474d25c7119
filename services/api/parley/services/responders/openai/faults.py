"""What goes wrong between here and a model: as the client is told it, and as the operator is."""

import re
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from math import ceil
from time import time

import h11
from openai import APIConnectionError, APIError, APIStatusError

from parley.core.errors import ModelError, ModelUnavailable
from parley.services.responders.base import Fault

RETRY_AFTER_MAX_SECONDS = 3600
_OPERATORS = (
    "It refuses what this server is set to ask; whoever runs this server has to look at it."
)
_NOT_TAKEN = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
_HINTS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: ": is OPENAI_API_KEY right?",
    HTTPStatus.PAYMENT_REQUIRED: ": does somebody have to pay?",
    HTTPStatus.FORBIDDEN: ": may OPENAI_API_KEY use this model?",
    HTTPStatus.NOT_FOUND: ": does OPENAI_BASE_URL lead to its /v1, and does it have this model?",
}


class Nonsense(Fault):
    def __init__(self, reason: str) -> None:
        super().__init__(reason, ModelError("Try again."))


def fault_before(error: APIError) -> Fault:
    """What an error says that came before the first byte of a stream."""
    if isinstance(error, APIStatusError):
        return _refusal(error.status_code, error.response.headers.get("Retry-After"))
    if not isinstance(error, APIConnectionError):
        return Nonsense("what it answered makes no sense")
    reason = type(error.__cause__).__name__
    if _is_no_http(error):
        return Nonsense(f"what it answered is no HTTP: {reason}")
    return Fault(f"it cannot be reached: {reason}", ModelUnavailable())


def fault_within(error: Exception) -> Fault:
    """What an error says that came after it."""
    if isinstance(error, StopAsyncIteration):
        return Nonsense("it stopped before it had finished")
    if isinstance(error, APIConnectionError):
        return Nonsense(f"it broke off: {type(error.__cause__).__name__}")
    if isinstance(error, APIError):
        return Nonsense("it told of an error of its own")
    return Nonsense(f"what it says cannot be read: {type(error).__name__}")


def _refusal(status: int, retry_after: str | None) -> Fault:
    reason = f"status {status}{_HINTS.get(status, '')}"
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    if is_redirect:
        reason += ": OPENAI_BASE_URL must lead there by itself"
    elif not _may_be_taken_later(status):
        if status in _NOT_TAKEN:
            reason += (
                ": does the prompt fit its context (HISTORY_MAX_CHARACTERS) and its template?"
            )
        advice = "Shorten the message, or begin a new conversation."
        return Fault(reason, ModelError(f"The model did not take the request. {advice}"))
    detail = _OPERATORS if is_redirect or status in _HINTS else "Try again shortly."
    return Fault(reason, ModelUnavailable(detail, retry_after_seconds=_seconds(retry_after)))


def _may_be_taken_later(status: int) -> bool:
    waits = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
    return status in _HINTS or status in waits or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _is_no_http(error: BaseException) -> bool:
    """Rather than that somebody hung up, for which httpx2 has the same name."""
    # A pool in between takes the cause away, and leaves the context.
    below = error.__cause__ or error.__context__
    return isinstance(error, h11.RemoteProtocolError) or (below is not None and _is_no_http(below))


def _seconds(retry_after: str | None) -> int | None:
    """RFC 9110, 10.2.3; None where there is none, or none that makes sense."""
    if retry_after is None:
        return None
    if re.fullmatch("[0-9]{1,9}", retry_after):
        seconds = int(retry_after)
    else:
        try:
            seconds = ceil(parsedate_to_datetime(retry_after).timestamp() - time())
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 1), RETRY_AFTER_MAX_SECONDS)
