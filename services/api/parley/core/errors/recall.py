"""Errors that were written down, as problems, and are met again."""

from collections.abc import Iterator, Mapping
from typing import Any

from parley.core.errors.base import AppError, InternalError
from parley.core.errors.outages import Unavailable

_OWN = {"type", "title", "status", "detail", "code"}


def recalled(members: Mapping[str, Any]) -> AppError:
    """The error whose members these were; one that this release does not know is internal."""
    kinds = [kind for kind in _heirs(AppError) if kind.code == members["code"]]
    # Some have their parent's code, and words of their own.
    exact = (kind for kind in kinds if kind.title == members["title"])
    kind = next(exact, kinds[0] if kinds else InternalError)
    error = kind.__new__(kind)
    # In the words of then: a kind's own say what it is told anew.
    if isinstance(error, Unavailable):
        Unavailable.__init__(error, members["detail"])
    else:
        AppError.__init__(error, members["detail"])
    error.extensions = {
        name: str(value) for name, value in members.items() if name not in _OWN and value
    }
    return error


def _heirs(of: type[AppError]) -> Iterator[type[AppError]]:
    for heir in of.__subclasses__():
        yield heir
        yield from _heirs(heir)
