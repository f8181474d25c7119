"""Who may wait how long when Parley is told to stop: each longer than the one inside it."""

from typing import NamedTuple, Self

from parley.core.settings import Settings
from parley.services.turns.runner import LAST_WORDS_SECONDS

# For what a proxy had sent before it saw that nobody listens any more.
LINGER_SECONDS = 0.5
# For the lease to be given back and the connections to be closed.
FAREWELL_SECONDS = 5.0


class Graces(NamedTuple):
    """All in seconds, from SIGTERM on; what kills the process must wait longer than any."""

    drain_seconds: float
    """Serving on as not ready, then waiting for the turns that run."""
    uvicorn_seconds: float
    """The longest that a worker waits for its connections, once it listens no more."""
    gunicorn_seconds: float
    """The longest that a worker lives on."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        announce, grace = settings.shutdown_announce_seconds, settings.shutdown_grace_seconds
        # A turn that is cut short may record what it has, and then may be cancelled.
        uvicorn = grace + 2 * LAST_WORDS_SECONDS
        return cls(
            drain_seconds=announce + LINGER_SECONDS + grace,
            uvicorn_seconds=uvicorn,
            gunicorn_seconds=announce + LINGER_SECONDS + uvicorn + FAREWELL_SECONDS,
        )
