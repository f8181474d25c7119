"""How a list is cut into pages."""

from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

from parley.core.security.cursors import Cursors
from parley.schemas.files import FileMetadata
from parley.schemas.keys import ApiKey
from parley.schemas.paging import Page

Item = TypeVar("Item")
Named = TypeVar("Named", ApiKey, FileMetadata)


def page_of(found: Sequence[Item], size: int, seal: Callable[[Item], str]) -> Page[Item]:
    """`found` has more than `size` where there is another page, which begins behind the last shown."""
    items = [*found[:size]]
    return Page(items=items, next_cursor=None if len(items) == len(found) else seal(items[-1]))


class ById:
    """Pages of a user's list in the order of ids; a cursor is the last one shown."""

    def __init__(self, cursors: Cursors, listing: str) -> None:
        self._cursors = cursors
        self._listing = listing

    def behind(self, user_id: str, cursor: str | None) -> UUID | None:
        """
        Raises:
            InvalidCursor: it was not given to this user for this list.
        """
        if cursor is None:
            return None
        (last_id,) = self._cursors.open(user_id, self._listing, cursor)
        return UUID(last_id)

    def page(self, user_id: str, found: Sequence[Named], size: int) -> Page[Named]:
        return page_of(
            found, size, lambda last: self._cursors.seal(user_id, self._listing, [str(last.id)])
        )
