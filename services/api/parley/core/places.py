import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from weakref import WeakValueDictionary


class Places:
    """
    So many at once, in their order, and of one user half of them: whoever wants much at once waits
    for what they wanted themselves, and others do not.
    """

    def __init__(self, most: int) -> None:
        self._all = asyncio.Semaphore(most)
        self._share = max(1, most // 2)
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def taken(self, user_id: str | None) -> AsyncGenerator[None]:
        """Waits for one. `user_id` is None before it is known."""
        own: asyncio.Semaphore | nullcontext[None] = nullcontext()
        if user_id is not None:
            own = self._shares.setdefault(user_id, asyncio.Semaphore(self._share))
        async with own, self._all:
            yield
