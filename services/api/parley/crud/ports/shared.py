"""Doors to what all processes share, and may lose."""

from collections.abc import Collection, Mapping
from typing import Protocol
from uuid import UUID

from parley.crud.ports.streams import StreamLog
from parley.schemas.limits import Quota, Standing

SLOT_SECONDS = 15
"""How long a user's slot is taken after the process that holds it was last heard of."""


class Limiter(Protocol):
    async def hit(self, quota: Quota, key: str) -> Standing:
        """
        Count one, if the quota admits it. What is refused does not count.

        Raises:
            Unavailable: the counts cannot be asked now.
        """
        ...


class Slots(Protocol):
    """How many streams each holder has open, over all processes. Any may raise Unavailable."""

    async def take(self, holder: str, slot: UUID, limit: int) -> bool:
        """False where the holder has `limit` of them. It is held for SLOT_SECONDS."""
        ...

    async def keep(self, held: Mapping[str, Collection[UUID]]) -> None:
        """Hold these for another SLOT_SECONDS, also those that were lost or never taken."""
        ...

    async def give_back(self, slots: Collection[tuple[str, UUID]]) -> None: ...


class Common(Protocol):
    """What all processes share, and may lose."""

    @property
    def limiter(self) -> Limiter: ...

    @property
    def slots(self) -> Slots: ...

    @property
    def events(self) -> StreamLog: ...

    async def ping(self) -> None:
        """
        Raises:
            Unavailable: no answer.
        """
        ...

    async def close(self) -> None: ...
