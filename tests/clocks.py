"""Time that passes when a test says so."""

from collections.abc import Callable


class LoopClock:
    """The event loop's, by which requests and turns have their time. It goes on, so far `ahead`."""

    def __init__(self, of: Callable[[], float]) -> None:
        self._of = of
        self.ahead = 0.0

    def __call__(self) -> float:
        return self._of() + self.ahead
