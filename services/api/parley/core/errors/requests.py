"""The request itself: its form, its size, how often it comes."""

from collections.abc import Sequence

from parley.core.errors.base import AppError, NotFound


class MalformedRequest(AppError):
    status, code, title = 400, "malformed-request", "This is not HTTP as RFC 9112 has it"

    def __init__(self) -> None:
        super().__init__("The connection ends here: what follows could be anything.")


class UntrustedHost(AppError):
    status, code, title = 400, "untrusted-host", "The Host header names another host"

    def __init__(self) -> None:
        super().__init__("Whoever runs this installation lists its names in TRUSTED_HOSTS.")


class InvalidCursor(AppError):
    status, code, title = 400, "invalid-cursor", "The cursor is not valid"

    def __init__(self) -> None:
        super().__init__("Start again without a cursor, or send one exactly as it was given.")


class RouteNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("There is nothing at this path; /docs lists what there is.")


class MethodNotAllowed(AppError):
    status, code, title = 405, "method-not-allowed", "Method not allowed"

    def __init__(self) -> None:
        super().__init__("The Allow header names the methods of this path.")


class BodyTimeout(AppError):
    status, code, title = 408, "body-timeout", "The request body took too long to arrive"

    def __init__(self) -> None:
        super().__init__("Send it again, faster or in smaller parts.")


class BodyTooLarge(AppError):
    status, code, title = 413, "body-too-large", "The request body is too large"

    def __init__(self) -> None:
        super().__init__("Send less at once.")


class UnsupportedEncoding(AppError):
    status, code, title = 415, "unsupported-encoding", "The request body is compressed"

    def __init__(self) -> None:
        super().__init__("Send the body as it is, without Content-Encoding.")


class InvalidRequest(AppError):
    status, code, title = 422, "invalid-request", "The request is not valid"

    def __init__(self, detail: str = "Mend what `errors` names and send it again.") -> None:
        super().__init__(detail)


class TooManyMembers(InvalidRequest):
    """Before each of them is looked at: that would be a fault for each."""

    def __init__(self) -> None:
        super().__init__("The body has more members than any request here. Send fewer.")


class IdempotencyKeyReused(InvalidRequest):
    code, title = "idempotency-key-reused", "The idempotency key was used for another request"

    def __init__(self) -> None:
        super().__init__("Send each message with a key of its own, and a retry as it was.")


class ModelNotOffered(InvalidRequest):
    code, title = "model-not-offered", "There is no such model here"

    def __init__(self, models: Sequence[str] = ()) -> None:
        super().__init__(f"Leave `model` out, or choose one of: {', '.join(models)}.")


class RateLimited(AppError):
    """`retry_after_seconds` says when the next one is admitted."""

    status, code, title = 429, "rate-limited", "Too many requests"

    def __init__(self, retry_after_seconds: int = 1) -> None:
        super().__init__(f"Try again in {retry_after_seconds} seconds.")
        self.retry_after_seconds = retry_after_seconds


class TooManyStreams(RateLimited):
    code, title = "too-many-streams", "Too many turns and streams are open"

    def __init__(self) -> None:
        super().__init__(5)


class HeadersTooLarge(AppError):
    status, code, title = 431, "headers-too-large", "The request's headers are too large"

    def __init__(self) -> None:
        super().__init__("Send fewer or shorter headers, cookies among them.")
