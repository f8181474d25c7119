from typing import Annotated

from fastapi import Query
from pydantic import Field

from parley.schemas.base import STORABLE

Limit = Annotated[int, Query(ge=1, le=100, description="How many items at most.")]
Cursor = Annotated[
    str | None,
    Query(description="`next_cursor` of the page before, as it was given."),
]
Sought = Annotated[
    Annotated[str, Field(strict=True, min_length=1, max_length=200), STORABLE] | None,
    Query(
        description="Only what has this text in it, in whatever case; no character is a wildcard."
        " Send it again with each `cursor`.",
    ),
]
LIMIT = 20
