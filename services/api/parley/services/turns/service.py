"""Turns that are there already: read, followed, cancelled."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from parley.core.errors import DatabaseUnavailable, Draining, EventsGone, TurnCancelled
from parley.crud.ports import Store
from parley.schemas.turns import Turn, TurnStatus
from parley.services.turns.events import TurnEvents
from parley.services.turns.records import TurnRecords, about
from parley.services.turns.relay import Mirror, Relay
from parley.services.turns.runner import TurnRunner

END_SECONDS = 3.0


def _nothing() -> None:
    pass


class Reading(NamedTuple):
    """A turn's events, and what is to be called by who reads them no more, once."""

    events: TurnEvents
    leave: Callable[[], None] = _nothing
    is_replayed: bool = False


class TurnService:
    def __init__(
        self,
        store: Store,
        runner: TurnRunner,
        records: TurnRecords,
        relay: Relay,
        *,
        retention_seconds: float,
    ) -> None:
        self._store = store
        self._runner = runner
        self._records = records
        self._relay = relay
        self._retention_seconds = retention_seconds

    async def get(self, user_id: str, turn_id: UUID) -> Turn:
        """
        Raises:
            TurnNotFound: it is another user's, or nobody's.
        """
        return await self._records.get(user_id, turn_id)

    async def read(self, user_id: str, turn_id: UUID) -> Reading:
        """
        The events of a turn, wherever it runs; as they were for STREAM_RETENTION_SECONDS after it.

        Raises:
            TurnNotFound: it is another user's, or nobody's.
            EventsGone: it has ended too long ago.
            DatabaseUnavailable, Overloaded: the store did not say in time how it ended.
            Draining: this process is shutting down.
        """
        if live := self._runner.find(user_id, turn_id):
            return Reading(live)
        turn = await self._records.get(user_id, turn_id)
        reading = self.follow(user_id, turn)
        if turn.status is not TurnStatus.RUNNING:
            try:
                await self._check(user_id, turn, reading.events)
            except BaseException:
                reading.leave()
                raise
        return reading

    def follow(self, user_id: str, turn: Turn) -> Reading:
        """The same; of one that ended too long ago, its reply in one piece."""
        if live := self._runner.find(user_id, turn.id):
            return Reading(live)
        return Reading(*self._relay.follow(user_id, turn))

    async def cancel(self, user_id: str, turn_id: UUID) -> Turn:
        """
        Have it end with what it has, wherever it runs; one that has ended stays as it is.

        Raises:
            TurnNotFound: it is another user's, or nobody's.
        """
        if live := self._runner.find(user_id, turn_id):
            live.interrupt(TurnCancelled())
        else:
            async with self._store.begin(user_id) as tx:
                await tx.turns.request_cancel(turn_id)
        return await self._records.get(user_id, turn_id)

    async def _check(self, user_id: str, turn: Turn, events: TurnEvents) -> None:
        try:
            async with asyncio.timeout(END_SECONDS):
                await events.ended()
        except TimeoutError:
            raise DatabaseUnavailable from None
        if events.end is None:
            raise Draining
        is_kept = isinstance(events, Mirror) and events.is_heard_out.is_set()
        if is_kept:
            return
        since_end = await self._records.seconds_since_end(user_id, turn.id)
        if since_end > self._retention_seconds:
            raise about(turn, EventsGone())
