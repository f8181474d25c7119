"""Whether this process serves, and what it can reach."""

import asyncio
from datetime import UTC, datetime
from time import monotonic
from typing import Literal

from parley.core.errors import Unavailable
from parley.core.tasks import Joined
from parley.crud.ports import SCHEMA_REVISION, Store
from parley.schemas.health import DatabaseHealth, Health, Readiness, ServiceHealth
from parley.services.turns.runner import TurnRunner

# Less than a probe waits: Kubernetes gives it one second.
PROBE_SECONDS = 0.5


class HealthService:
    """Anybody may ask, as often as they like: the database is asked once at a time."""

    def __init__(
        self, store: Store, runner: TurnRunner, *, version: str, refuses_faults: bool
    ) -> None:
        self._store = store
        self._runner = runner
        self._version = version
        self._started_at = monotonic()
        self._revision: str | None = None
        self._is_fit = not refuses_faults
        self._pinged = Joined(self._ping)
        self._examined = Joined(self._examine)
        self._looked_at = Joined(self._look)
        self._measured = Joined(self._measure)

    def alive(self) -> Health:
        """Asks nobody: a database that is down is no reason to restart this process."""
        return Health(
            version=self._version,
            uptime_seconds=round(monotonic() - self._started_at, 3),
            timestamp=datetime.now(UTC),
        )

    async def ready(self) -> Readiness:
        """
        Once the database has answered with a schema this code knows, and where faults are refused
        with none of them, ready until draining.

        A later outage concerns every replica alike: taking them all out would help nobody.
        """
        database = await self._looked_at.ask()
        draining = self._runner.is_draining
        return Readiness(
            status="ready" if self._is_usable and not draining else "not-ready",
            database=database,
            schema_revision=self._revision,
            draining=draining,
        )

    async def examine(self) -> Literal["connected", "disconnected", "refused"]:
        """
        What `ready` finds out; in the database's own time, which is more than a probe has.

        It goes on, and counts, when whoever asks waits no longer.
        """
        return await self._examined.ask()

    async def database(self) -> DatabaseHealth:
        return await self._measured.ask()

    async def service(self) -> ServiceHealth:
        database = await self._pinged.ask()
        return ServiceHealth(
            status="ok" if database == "connected" else "error",
            database=database,
            timestamp=datetime.now(UTC),
        )

    @property
    def _is_usable(self) -> bool:
        return self._is_fit and is_served_by(self._revision)

    async def _examine(self) -> Literal["connected", "disconnected", "refused"]:
        try:
            if not is_served_by(self._revision):
                self._revision = await self._store.revision()
            if not self._is_fit:
                self._is_fit = not await self._store.faults()
        except Unavailable:
            return "disconnected"
        return "connected" if self._is_fit else "refused"

    async def _look(self) -> Literal["connected", "disconnected", "refused"]:
        if self._is_usable:
            return await self._pinged.ask()
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await self.examine()
        except TimeoutError:
            return "disconnected"

    async def _measure(self) -> DatabaseHealth:
        asked_at = monotonic()
        try:
            revision = await self._store.revision()
        except Unavailable:
            return DatabaseHealth(
                status="error", latency_seconds=None, pool=self._store.pool(), revision=None
            )
        return DatabaseHealth(
            status="ok",
            latency_seconds=round(monotonic() - asked_at, 6),
            pool=self._store.pool(),
            revision=revision,
        )

    async def _ping(self) -> Literal["connected", "disconnected"]:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._store.ping()
        except (Unavailable, TimeoutError):
            return "disconnected"
        return "connected"


def is_served_by(revision: str | None) -> bool:
    """The code's own schema or a later one; revisions are four digits counting up."""
    return revision is not None and revision.isdecimal() and revision >= SCHEMA_REVISION
