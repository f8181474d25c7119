"""What the store says of a turn."""

from uuid import UUID

from parley.core.errors import AppError, WorkerLost, recalled
from parley.crud.ports import Store
from parley.schemas.turns import KeyedTurn, Turn, TurnStarted, TurnStatus
from parley.services.turns.events import TurnEvents, problem_of


class TurnRecords:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, user_id: str, turn_id: UUID) -> Turn:
        """
        One that nobody runs any more is closed, and so ends for whoever meets it.

        Raises:
            TurnNotFound: it is another user's, or nobody's.
        """
        async with self._store.begin(user_id, read_only=True) as tx:
            turn = await tx.turns.get(turn_id)
        if turn.status is not TurnStatus.RUNNING:
            return turn
        async with self._store.begin(user_id) as tx:
            closed = await tx.turns.close_abandoned(turn.conversation_id, problem_of(WorkerLost()))
            return await tx.turns.get(turn_id) if closed else turn

    async def keyed(self, user_id: str, idempotency_key: str) -> KeyedTurn | None:
        """None where the key is free, also because nobody ran its turn any more."""
        async with self._store.begin(user_id, read_only=True) as tx:
            found = await tx.turns.keyed(idempotency_key)
        if found is None or found.turn.status is not TurnStatus.RUNNING:
            return found
        turn = await self.get(user_id, found.turn.id)
        is_free = turn.status is not TurnStatus.RUNNING and turn.reply is None
        return None if is_free else found._replace(turn=turn)

    async def end(self, user_id: str, turn: Turn, events: TurnEvents) -> None:
        """Tell the readers how a turn ended."""
        async with self._store.begin(user_id, read_only=True) as tx:
            recorded = await tx.turns.recorded(turn.id)
        if turn.problem is None and recorded is not None:
            events.finish(recorded)
        else:
            events.fail(failure_of(turn), recorded.reply.content if recorded else "")

    async def replayed(self, user_id: str, turn: Turn) -> TurnEvents:
        """A turn that has ended, with its reply in one piece."""
        events = TurnEvents()
        events.start(started_by(turn))
        await self.end(user_id, turn, events)
        return events


def started_by(turn: Turn) -> TurnStarted:
    return TurnStarted(turn_id=turn.id, conversation_id=turn.conversation_id)


def failure_of(turn: Turn) -> AppError:
    """As it was told when it happened."""
    problem = turn.problem or problem_of(WorkerLost())
    error = recalled(problem.model_dump(exclude_none=True))
    return error.about(turn_id=turn.id, conversation_id=turn.conversation_id)
