"""Tasks that run beside the requests."""

import asyncio
from typing import Any

PATIENCE_SECONDS = 0.1


async def cancel(task: asyncio.Task[Any]) -> None:
    """
    Cancel, and return when it has ended.

    Once is not enough: redis-py 8.1 loses one cancellation in ten that come while it has just got a
    connection, and goes on.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE_SECONDS)
