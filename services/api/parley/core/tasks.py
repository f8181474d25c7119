"""Tasks that run beside the requests."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

PATIENCE_SECONDS = 0.1

Answer = TypeVar("Answer")


async def cancel(task: asyncio.Task[Any]) -> None:
    """
    Cancel, and return when it has ended.

    Once is not enough: redis-py 8.1 loses one cancellation in ten that come while it has just got a
    connection, and goes on.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE_SECONDS)


class Joined(Generic[Answer]):
    """A question that is asked once at a time: whoever has it meanwhile hears the same answer."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, Answer]]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[Answer] | None = None

    async def ask(self) -> Answer:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        # Who leaves leaves the others waiting.
        return await asyncio.shield(self._asking)
