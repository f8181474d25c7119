"""What all errors have in common, and the kinds that have members in more than one place."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Self
from uuid import UUID


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

    def saying(self, detail: str) -> Self:
        """The same error, in other words."""
        self.args = (detail,)
        return self

    def about(self, **extensions: UUID | str) -> Self:
        """The same error, saying which turn, conversation and request it is about."""
        said = {name: str(value) for name, value in extensions.items()}
        self.extensions = {**self.extensions, **said}
        return self


class InternalError(AppError):
    """A bug. Says nothing of the inside; the log has it under the same request id."""

    def __init__(self) -> None:
        super().__init__("Something went wrong here. Quote the request id when you report it.")


class NotFound(AppError):
    status, code, title = 404, "not-found", "Not found"


class Conflict(AppError):
    status, code, title = 409, "conflict", "Conflict"
