"""
Every error a client may see. `parley/problems.py` is the only place that turns one into HTTP.

AppError
├── InvalidCursor                400  invalid-cursor
├── MalformedRequest             400  malformed-request
├── UntrustedHost                400  untrusted-host
├── Unauthenticated              401  unauthenticated
│   ├── TokenRefused
│   ├── InvalidCredentials            invalid-credentials
│   └── AccountGone                   account-gone
├── Forbidden                    403  forbidden
│   ├── NotYourResource               not-your-resource
│   ├── RegistrationClosed            registration-closed
│   ├── SessionRequired               session-required
│   ├── WrongPassword                 wrong-password
│   └── OriginRefused                 origin-refused
├── NotFound                     404  not-found
│   ├── RouteNotFound
│   ├── ConversationNotFound          conversation-not-found
│   ├── KeyNotFound                   key-not-found
│   └── TurnNotFound                  turn-not-found
├── MethodNotAllowed             405  method-not-allowed
├── BodyTimeout                  408  body-timeout
├── Conflict                     409
│   ├── EmailTaken                    email-taken
│   ├── TooManyKeys                   too-many-keys
│   ├── TurnInProgress                turn-in-progress
│   └── ConversationMoved             conversation-moved
├── BodyTooLarge                 413  body-too-large
├── UnsupportedEncoding          415  unsupported-encoding
├── InvalidRequest               422  invalid-request
├── RateLimited                  429, with Retry-After  rate-limited
│   └── TooManyStreams                too-many-streams
├── HeadersTooLarge              431  headers-too-large
├── InternalError                500  internal-error
├── ModelError                   502  model-error
├── Unavailable                  503, with Retry-After
│   ├── DatabaseUnavailable           database-unavailable
│   ├── IssuerUnavailable             issuer-unavailable
│   ├── ModelUnavailable              model-unavailable
│   ├── Overloaded                    overloaded
│   ├── WorkerLost                    worker-lost
│   └── Draining                      draining
└── ModelTimeout                 504  model-timeout

Which exceptions of a driver become which of these is `core.resilience`'s business.
"""

from collections.abc import Mapping
from random import randint
from types import MappingProxyType
from typing import ClassVar, Self
from uuid import UUID


_NO_GOOD_TOKEN = 'Bearer error="invalid_token"'  # RFC 6750, 3.1


class AppError(Exception):
    """
    An expected failure. Subclasses name it; the message explains this occurrence.

    `code` is stable: clients may branch on it. `extensions` are further members
    of the problem (RFC 9457, 3.2), such as the turn that failed.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    retry_after_seconds: int | None = None
    extensions: Mapping[str, str] = MappingProxyType({})

    @property
    def members(self) -> dict[str, str | int]:
        """The problem's members (RFC 9457) that do not depend on who asked."""
        return {
            "type": f"/problems/{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": str(self) or self.title,
            "code": self.code,
            **self.extensions,
        }

    def about(self, **extensions: UUID) -> Self:
        """The same error, saying which turn or conversation it is about."""
        self.extensions = {name: str(value) for name, value in extensions.items()}
        return self


class InternalError(AppError):
    """A bug. Says nothing of the inside; the log has it under the same request id."""

    def __init__(self) -> None:
        super().__init__("Something went wrong here. Quote the request id when you report it.")


class InvalidCursor(AppError):
    status, code, title = 400, "invalid-cursor", "The cursor is not valid"

    def __init__(self) -> None:
        super().__init__("Start again without a cursor, or send one exactly as it was given.")


class MalformedRequest(AppError):
    status, code, title = 400, "malformed-request", "This is not HTTP as RFC 9112 has it"

    def __init__(self) -> None:
        super().__init__("The connection ends here: what follows could be anything.")


class UntrustedHost(AppError):
    status, code, title = 400, "untrusted-host", "The Host header names another host"

    def __init__(self) -> None:
        super().__init__("Whoever runs this installation lists its names in TRUSTED_HOSTS.")


class Unauthenticated(AppError):
    status, code, title = 401, "unauthenticated", "A valid bearer token is required"
    challenge: ClassVar[str] = "Bearer"


class TokenRefused(Unauthenticated):
    """There was one, and it is not believed. `reason` is for the audit alone."""

    challenge = _NO_GOOD_TOKEN

    def __init__(self, *, reason: str = "not-valid") -> None:
        super().__init__("The token is not valid, or no longer. Log in for a new one.")
        self.reason = reason


class InvalidCredentials(Unauthenticated):
    code, title = "invalid-credentials", "Wrong e-mail address or password"

    def __init__(self) -> None:
        super().__init__("No account has this e-mail address and this password.")


class AccountGone(Unauthenticated):
    challenge = _NO_GOOD_TOKEN
    code, title = "account-gone", "The token's account does not exist"

    def __init__(self) -> None:
        super().__init__("Open an account, or log in to one that exists.")


class Forbidden(AppError):
    status, code, title = 403, "forbidden", "Forbidden"


class NotYourResource(Forbidden):
    code, title = "not-your-resource", "The path names another user"

    def __init__(self) -> None:
        super().__init__("The user in the path is not the token's. Use `me` for your own.")


class RegistrationClosed(Forbidden):
    code, title = "registration-closed", "Registration is closed"

    def __init__(self) -> None:
        super().__init__("Ask whoever runs this installation for an account.")


class SessionRequired(Forbidden):
    code, title = "session-required", "Only a session of your own account may do this"

    def __init__(self) -> None:
        super().__init__("Log in with e-mail address and password, and use that access token.")


class WrongPassword(Forbidden):
    code, title = "wrong-password", "The current password is wrong"

    def __init__(self) -> None:
        super().__init__("Nothing was changed. Send the password that you log in with.")


class OriginRefused(Forbidden):
    code, title = "origin-refused", "A cookie does not count from this origin"

    def __init__(self) -> None:
        super().__init__("Send a bearer token, or have CORS_ORIGINS name the page's origin.")


class NotFound(AppError):
    status, code, title = 404, "not-found", "Not found"


class ConversationNotFound(NotFound):
    code, title = "conversation-not-found", "Conversation not found"

    def __init__(self) -> None:
        super().__init__("You have no conversation with this id.")


class KeyNotFound(NotFound):
    code, title = "key-not-found", "API key not found"

    def __init__(self) -> None:
        super().__init__("You have no API key with this id.")


class TurnNotFound(NotFound):
    code, title = "turn-not-found", "Turn not found"

    def __init__(self) -> None:
        super().__init__("You have no turn with this id.")


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


class Conflict(AppError):
    status, code, title = 409, "conflict", "Conflict"


class EmailTaken(Conflict):
    code, title = "email-taken", "This e-mail address has an account"

    def __init__(self) -> None:
        super().__init__("Log in instead, or register another address.")


class TooManyKeys(Conflict):
    code, title = "too-many-keys", "You have as many API keys as one may have"

    def __init__(self) -> None:
        super().__init__("Delete one that is not used any more.")


class TurnInProgress(Conflict):
    code, title = "turn-in-progress", "Another turn of this conversation is running"

    def __init__(self) -> None:
        super().__init__("Send the message again when the running turn has ended.")


class ConversationMoved(Conflict):
    code, title = "conversation-moved", "The conversation moved on during this turn"

    def __init__(self) -> None:
        super().__init__("Another turn was recorded first; read the conversation and try again.")


class InvalidRequest(AppError):
    status, code, title = 422, "invalid-request", "The request is not valid"

    def __init__(self) -> None:
        super().__init__("Mend what `errors` names and send it again.")


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


class ModelError(AppError):
    status, code, title = 502, "model-error", "The model's reply broke off or made no sense"


class ModelTimeout(AppError):
    status, code, title = 504, "model-timeout", "The model did not answer in time"


class Unavailable(AppError):
    """Something Parley needs is not there now. Retry-After is jittered, so that clients spread."""

    status, code, title = 503, "unavailable", "A dependency is unavailable"

    def __init__(self, message: str = "Try again shortly.") -> None:
        super().__init__(message)
        self.retry_after_seconds = randint(1, 5)  # noqa: S311 - spreads load, guards nothing


class DatabaseUnavailable(Unavailable):
    code, title = "database-unavailable", "The database is unavailable"


class IssuerUnavailable(Unavailable):
    code, title = "issuer-unavailable", "Whoever issued the token cannot be asked for its keys"


class ModelUnavailable(Unavailable):
    code, title = "model-unavailable", "The model is unavailable"


class Overloaded(Unavailable):
    code, title = "overloaded", "Too much work at once"


class WorkerLost(Unavailable):
    code, title = "worker-lost", "The process that ran this turn is gone"

    def __init__(self) -> None:
        super().__init__("Nothing was recorded but your message; send it again.")


class Draining(Unavailable):
    code, title = "draining", "This process is shutting down"

    def __init__(self) -> None:
        super().__init__("Send the message again; another process takes it.")
