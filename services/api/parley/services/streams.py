"""How many turns and streams a user has open."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from uuid import UUID

from parley.core.errors import TooManyStreams
from parley.core.ids import new_id
from parley.core.metrics import LIMITER_FALLBACKS
from parley.core.tasks import cancel
from parley.crud.ports import SLOT_SECONDS
from parley.services.shared import Shared

RENEW_SECONDS = SLOT_SECONDS / 3


class Slot:
    """Taken until the last of its holders has left: a request, and the turn that it began."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._holders = 1
        self._give_back = give_back

    def hold(self) -> None:
        self._holders += 1

    def leave(self) -> None:
        self._holders -= 1
        if self._holders == 0:
            self._give_back()


class StreamService:
    """
    Gives out slots, so many to each holder over all processes: a user, or one as a reader.

    One task gives them back and keeps the others: a slot is never kept after it was given back.
    """

    def __init__(
        self,
        shared: Shared | None,
        *,
        max_per_user: int,
        renew_seconds: float = RENEW_SECONDS,
    ) -> None:
        self._fallbacks = LIMITER_FALLBACKS.labels("streams")
        self._shared = shared
        self._max_per_user = max_per_user
        self._renew_seconds = renew_seconds
        self._held: dict[str, set[UUID]] = {}
        self._returned: list[tuple[str, UUID]] = []
        self._news = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def take(self, holder: str) -> Slot:
        """
        Raises:
            TooManyStreams: it has as many as one may.
        """
        held = self._held.setdefault(holder, set())
        if len(held) >= self._max_per_user:
            raise TooManyStreams
        slot_id = new_id()
        held.add(slot_id)
        slot = Slot(partial(self._give_back, holder, slot_id))
        try:
            is_free = await self._ask(holder, slot_id)
        except BaseException:
            slot.leave()
            raise
        if not is_free:
            slot.leave()
            raise TooManyStreams
        return slot

    def start(self) -> None:
        if self._shared is not None:
            self._keeping = asyncio.create_task(self._keep(self._shared))

    async def stop(self) -> None:
        """What is still held runs out by itself."""
        if self._shared is not None and self._keeping is not None:
            await cancel(self._keeping)
            await self._hand_over(self._shared)

    async def _ask(self, holder: str, slot_id: UUID) -> bool:
        if self._shared is None:
            return True
        is_free = await self._shared.ask(
            lambda common: common.slots.take(holder, slot_id, self._max_per_user)
        )
        if is_free is None:
            # This process knows only its own.
            self._fallbacks.inc()
        return is_free is not False

    def _give_back(self, holder: str, slot_id: UUID) -> None:
        held = self._held[holder]
        held.remove(slot_id)
        if not held:
            del self._held[holder]
        if self._shared is not None:
            self._returned.append((holder, slot_id))
            self._news.set()

    async def _keep(self, shared: Shared) -> None:
        clock = asyncio.get_running_loop().time
        renew_at = clock() + self._renew_seconds
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(renew_at):
                    await self._news.wait()
            await self._hand_over(shared)
            if clock() >= renew_at:
                renew_at = clock() + self._renew_seconds
                await self._renew(shared)

    async def _renew(self, shared: Shared) -> None:
        if held := {holder: [*slots] for holder, slots in self._held.items()}:
            await shared.ask(lambda common: common.slots.keep(held))

    async def _hand_over(self, shared: Shared) -> None:
        self._news.clear()
        returned, self._returned = self._returned, []
        if returned:
            await shared.ask(lambda common: common.slots.give_back(returned))
