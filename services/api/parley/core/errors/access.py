"""Who is asking, what they may do, and their account."""

from typing import ClassVar

from parley.core.errors.base import AppError, Conflict, NotFound

_REFUSED = 'Bearer error="invalid_token"'  # RFC 6750, 3.1


class Unauthenticated(AppError):
    status, code, title = 401, "unauthenticated", "A valid bearer token is required"
    challenge: ClassVar[str] = "Bearer"


class TokenRefused(Unauthenticated):
    """There was one, and it is not believed. `reason` is for the audit alone."""

    challenge = _REFUSED

    def __init__(self, *, reason: str = "not-valid") -> None:
        super().__init__("The token is not valid, or no longer. Log in for a new one.")
        self.reason = reason


class RefreshRefused(Unauthenticated):
    title = "A valid refresh token is required"

    def __init__(self) -> None:
        super().__init__("The refresh token is not valid, or no longer. Log in again.")


class InvalidCredentials(Unauthenticated):
    code, title = "invalid-credentials", "Wrong e-mail address or password"

    def __init__(self) -> None:
        super().__init__("No account has this e-mail address and this password.")


class AccountGone(Unauthenticated):
    challenge = _REFUSED
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


class EmailTaken(Conflict):
    code, title = "email-taken", "This e-mail address has an account"

    def __init__(self) -> None:
        super().__init__("Log in instead, or register another address.")


class TooManyKeys(Conflict):
    code, title = "too-many-keys", "You have as many API keys as one may have"

    def __init__(self) -> None:
        super().__init__("Delete one that is not used any more.")


class KeyNotFound(NotFound):
    code, title = "key-not-found", "API key not found"

    def __init__(self) -> None:
        super().__init__("You have no API key with this id.")
