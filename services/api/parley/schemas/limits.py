"""How much somebody may do in a time, and how much of it is left."""

from math import ceil, floor
from typing import NamedTuple, Self

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


class Quota(NamedTuple):
    name: str
    amount: int
    seconds: int

    @classmethod
    def of(cls, name: str, rate: str) -> Self:
        """`rate` is a setting such as `60/minute`."""
        amount, unit = rate.split("/")
        return cls(name, int(amount), _SECONDS[unit])

    def third(self, name: str) -> Self:
        return self._replace(name=name, amount=max(1, self.amount // 3))


class Standing(NamedTuple):
    """What became of one request; `reset_seconds` from now there is room for one more."""

    quota: Quota
    is_admitted: bool
    remaining: int
    reset_seconds: int


class Window(NamedTuple):
    """
    A sliding window counter: what was counted in this window, and in the one before it.

    Of the one before it counts as large a part as it still overlaps the last `quota.seconds`.
    """

    previous: int
    previous_seconds: float
    current: int
    current_seconds: float

    def used(self, quota: Quota) -> int:
        return floor(self.previous * self.previous_seconds / quota.seconds) + self.current

    def standing(self, quota: Quota, *, is_admitted: bool) -> Standing:
        used = self.used(quota)
        # The one before loses one of its own at regular steps; this one, when it becomes that.
        loses = used > self.current
        step = quota.seconds / self.previous if loses else quota.seconds
        wait = self.previous_seconds % step if loses else self.current_seconds
        return Standing(quota, is_admitted, max(0, quota.amount - used), max(1, ceil(wait)))
