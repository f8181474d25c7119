from typing import Annotated

from fastapi import Query

Limit = Annotated[int, Query(ge=1, le=100, description="How many items at most.")]
Cursor = Annotated[
    str | None,
    Query(description="`next_cursor` of the page before, as it was given."),
]
LIMIT = 20
