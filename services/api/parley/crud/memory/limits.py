from collections.abc import Callable
from time import monotonic

from parley.schemas.limits import Quota, Standing, Window

KEYS_MAX = 50_000


class MemoryLimiter:
    """
    Counts in this process, at most `keys_max` keys: the one that was not seen for longest goes.

    Not the storage of the library `limits`, which looks through all its keys at each hit and has no
    bound: with 100,000 of them a hit took 10 ms.
    """

    def __init__(
        self, *, keys_max: int = KEYS_MAX, clock: Callable[[], float] = monotonic
    ) -> None:
        self._keys_max = keys_max
        self._clock = clock
        # By key: when its window began, the count of the window before, the count of this one.
        self._counts: dict[tuple[Quota, str], tuple[float, int, int]] = {}

    async def hit(self, quota: Quota, key: str) -> Standing:
        now = self._clock()
        began_at, previous, current = self._counts.pop((quota, key), (now, 0, 0))
        windows_past = int((now - began_at) // quota.seconds)
        if windows_past:
            began_at += windows_past * quota.seconds
            previous, current = (current if windows_past == 1 else 0), 0
        left = began_at + quota.seconds - now
        is_admitted = Window(previous, left, current, left).used(quota) < quota.amount
        current += is_admitted
        self._counts[quota, key] = began_at, previous, current
        if len(self._counts) > self._keys_max:
            del self._counts[next(iter(self._counts))]
        return Window(previous, left, current, left).standing(quota, is_admitted=is_admitted)
