"""How a list is cut into pages."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from parley.schemas.paging import Page

Item = TypeVar("Item")


def page_of(found: Sequence[Item], size: int, seal: Callable[[Item], str]) -> Page[Item]:
    """`found` has more than `size` where there is another page, which begins behind the last shown."""
    items = [*found[:size]]
    return Page(items=items, next_cursor=None if len(items) == len(found) else seal(items[-1]))
