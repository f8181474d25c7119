"""One at a time, in the order in which they came."""

import asyncio
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from parley.core.errors import TurnInProgress


class Queues:
    """A queue for each key, in this process; one that nobody is in takes no room."""

    def __init__(self) -> None:
        self._queues: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, key: Hashable, *, give_up_at: float) -> AsyncGenerator[None]:
        """
        `give_up_at` is a time of the event loop.

        Raises:
            TurnInProgress: it did not come by then.
        """
        queue = self._queues.setdefault(key, asyncio.Lock())
        try:
            async with asyncio.timeout_at(give_up_at):
                await queue.acquire()
        except TimeoutError:
            raise TurnInProgress from None
        try:
            yield
        finally:
            queue.release()
