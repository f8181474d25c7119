"""
Answers as JSON Lines, a value a line: https://jsonlines.org

`application/jsonl` is not registered; it is what the OpenAPI Initiative's registry has for them.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from parley.routers._streamed import Streamed
from parley.schemas.base import Entity


class JsonLines(Streamed):
    media_type = "application/jsonl"

    def __init__(self, first: bytes, further: AsyncGenerator[bytes], *, filename: str) -> None:
        disposition = f'attachment; filename="{filename}"'
        super().__init__(first, further, headers={"Content-Disposition": disposition})


async def lines_of(values: AsyncGenerator[Entity]) -> AsyncGenerator[bytes]:
    async with aclosing(values):
        async for value in values:
            yield value.model_dump_json().encode() + b"\n"
