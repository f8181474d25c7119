"""The door to what replies said piece by piece: for who reads later, or elsewhere. It may be lost."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

SILENCE_SECONDS_MAX = 3600
"""How long nothing may be written of a turn that runs; a model is never silent for longer."""


class Stretch(NamedTuple):
    """
    What a turn said next: its pieces from number `start` on, counted from 0.

    `is_last`: there will be no more of it.
    """

    user_id: str
    turn_id: UUID
    start: int
    pieces: Sequence[str]
    is_last: bool


class Place(NamedTuple):
    """How far somebody has read."""

    user_id: str
    turn_id: UUID
    start: int


class StreamLog(Protocol):
    async def append(self, stretches: Sequence[Stretch]) -> Sequence[int]:
        """
        Keep them, for as long as is set after the last was written.

        Returns:
            For each how many pieces of its turn are here now, the end counted as one. Another number
            than its own end: it was not taken, and what is missing has to come first.

        Raises:
            Unavailable: there is no telling what was taken.
        """
        ...

    async def read(self, places: Sequence[Place]) -> Sequence[Stretch]:
        """
        For each what follows, in so far as it is here without a gap; some of it, if it is long.

        Raises:
            Unavailable: it cannot be asked now.
        """
        ...
