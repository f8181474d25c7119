"""How the other processes see this one."""

import asyncio
from contextlib import suppress
from math import inf
from time import monotonic

import structlog

from parley.core.errors import Unavailable
from parley.core.ids import new_id
from parley.core.logging import frames_of
from parley.core.metrics import LEASES_HELD, LEASES_LOST
from parley.core.tasks import cancel
from parley.crud.ports import LEASE_SECONDS, Store

RENEW_SECONDS = LEASE_SECONDS / 3
RENEW_AGAIN_SECONDS = 0.5
# As long as others may take to renew theirs once the store is back.
RECOVERY_SECONDS = 3.0

log = structlog.get_logger(__name__)


class Worker:
    """
    Holds a lease in the store for as long as the process lives.

    Whoever meets a running turn of a process without one closes the turn: so a turn is begun only
    under a lease, and one that outlives it can no longer be recorded.
    """

    def __init__(self, store: Store) -> None:
        self.id = new_id()
        self._store = store
        self._held_until = 0.0
        self._recovers_until = 0.0
        self._renewing: asyncio.Task[None] | None = None
        self._failed_as: type[Exception] | None = None

    @property
    def is_recovering(self) -> bool:
        """The store was away for this process, and so for others: they may be alive without a lease."""
        return monotonic() < self._recovers_until

    async def ensure_lease(self) -> None:
        """
        Raises:
            DatabaseUnavailable: there is none, and it cannot be had now.
        """
        # Half of it must be left: a turn that begins is to outlive a renewal that fails once.
        if monotonic() >= self._held_until - LEASE_SECONDS / 2:
            await self._renew()

    def start(self) -> None:
        self._renewing = asyncio.create_task(self._keep_renewing())

    async def stop(self) -> None:
        if self._renewing is not None:
            await cancel(self._renewing)
        LEASES_HELD.set(0)
        try:
            await self._store.forget(self.id)
        except Exception as error:  # noqa: BLE001 - without a store the lease runs out by itself
            log.warning("lease-not-given-back", **frames_of(error))

    async def _renew(self) -> None:
        # Counted from before the question: never longer than the store counts it.
        asked_at = monotonic()
        try:
            await self._store.renew(self.id)
        except Unavailable:
            self._recovers_until = inf
            raise
        if self._recovers_until == inf:
            self._recovers_until = monotonic() + RECOVERY_SECONDS
        self._held_until = asked_at + LEASE_SECONDS
        LEASES_HELD.set(1)

    async def _keep_renewing(self) -> None:
        swept = False
        while True:
            pause = RENEW_AGAIN_SECONDS
            try:
                await self._renew()
                with suppress(Unavailable):  # the lease is renewed all the same
                    LEASES_LOST.set(await self._store.lost())
                if not swept:
                    await self._store.forget_dead()
                    swept = True
                pause = RENEW_SECONDS
                self._say_that_it_works()
            except Exception as error:  # noqa: BLE001 - as where there is no schema yet: it may come
                self._say_why_not(error)
            LEASES_HELD.set(monotonic() < self._held_until)
            await asyncio.sleep(pause)

    def _say_why_not(self, error: Exception) -> None:
        """Once for each reason: it is tried twice a second, be the store away for a night."""
        if type(error) is self._failed_as:
            return
        self._failed_as = type(error)
        if isinstance(error, Unavailable):
            log.warning("lease-not-renewed", code=error.code)
        else:
            log.error("lease-not-renewed", **frames_of(error))

    def _say_that_it_works(self) -> None:
        if self._failed_as is not None:
            self._failed_as = None
            log.info("lease-renewed")
