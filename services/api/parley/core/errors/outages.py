"""What is not there now, and will be: 503 with Retry-After."""

from random import randint

from parley.core.errors.base import AppError


class Unavailable(AppError):
    """Something Parley needs is not there now. Retry-After is jittered, so that clients spread."""

    status, code, title = 503, "unavailable", "A dependency is unavailable"

    def __init__(self, message: str = "Try again shortly.") -> None:
        super().__init__(message)
        self.retry_after_seconds = randint(1, 5)  # noqa: S311 - spreads load, guards nothing


class Full(Unavailable):
    """What all processes share takes no more. It answers: who needs no room may ask on."""


class DatabaseUnavailable(Unavailable):
    code, title = "database-unavailable", "The database is unavailable"


class IssuerUnavailable(Unavailable):
    code, title = "issuer-unavailable", "Whoever issued the token cannot be asked for its keys"


class ModelUnavailable(Unavailable):
    """With `retry_after_seconds` if whoever runs the model has said when it takes more."""

    code, title = "model-unavailable", "The model is unavailable"

    def __init__(
        self, message: str = "Try again shortly.", *, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds


class Overloaded(Unavailable):
    code, title = "overloaded", "Too much work at once"


class WorkerLost(Unavailable):
    code, title = "worker-lost", "The process that ran this turn is gone"

    def __init__(self) -> None:
        super().__init__("Nothing was recorded but your message; send it again.")


class Draining(Unavailable):
    code, title = "draining", "This process is shutting down"

    def __init__(self) -> None:
        super().__init__("Send it again; another process takes it.")
