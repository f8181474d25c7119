"""Who gets a connection next."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

from parley.core.errors import Overloaded


class Turnstile:
    """
    Lets so many in at a time, in their order, and of one user half of them: whoever asks much at
    once waits for what they asked themselves, and others do not.
    """

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._share = max(1, places // 2)
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def entered(self, user_id: str | None, *, seconds: float) -> AsyncGenerator[None]:
        """
        `user_id` is None before it is known.

        Raises:
            Overloaded: there was no room within this time.
        """
        async with AsyncExitStack() as inside:
            try:
                async with asyncio.timeout(seconds):
                    if user_id is not None:
                        own = self._shares.setdefault(user_id, asyncio.Semaphore(self._share))
                        await inside.enter_async_context(own)
                    await inside.enter_async_context(self._places)
            except TimeoutError as too_many:
                msg = "The database has no room for this now. Try again shortly."
                raise Overloaded(msg) from too_many
            yield
