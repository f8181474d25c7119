"""What the store says of a turn."""

from uuid import UUID

from parley.core.errors import (
    AppError,
    ConversationNotFound,
    TurnNotFound,
    WorkerLost,
    recalled,
)
from parley.crud.ports import Store, Transaction
from parley.schemas.turns import KeyedTurn, Turn, TurnStarted, TurnStatus
from parley.services.turns.counting import count_lost
from parley.services.turns.events import TurnEvents, problem_of
from parley.services.workers import Worker


class TurnRecords:
    def __init__(self, store: Store, worker: Worker) -> None:
        self._store = store
        self._worker = worker

    async def get(self, user_id: str, turn_id: UUID) -> Turn:
        """
        One that nobody runs any more is closed, and so ends for whoever meets it.

        Raises:
            TurnNotFound: it is another user's, or nobody's.
        """
        async with self._store.begin(user_id, read_only=True) as tx:
            turn = await tx.turns.get(turn_id)
            is_running = turn.status is TurnStatus.RUNNING
            is_abandoned = is_running and await tx.turns.is_abandoned(turn_id)
        if not is_abandoned or not await self.close(user_id, turn.conversation_id):
            return turn
        async with self._store.begin(user_id, read_only=True) as tx:
            return await tx.turns.get(turn_id)

    async def close(self, user_id: str, conversation_id: UUID) -> bool:
        """End the conversation's running turn if nobody runs it any more."""
        async with self._store.begin(user_id) as tx:
            is_closed = await self.close_abandoned(tx, conversation_id)
        if is_closed:
            count_lost()
        return is_closed

    async def close_abandoned(self, tx: Transaction, conversation_id: UUID) -> bool:
        """Not when the store was away just now: then nobody has a lease, and all may be alive."""
        if self._worker.is_recovering:
            return False
        return await tx.turns.close_abandoned(conversation_id, problem_of(WorkerLost()))

    async def seconds_since_end(self, user_id: str, turn_id: UUID) -> float:
        async with self._store.begin(user_id, read_only=True) as tx:
            return await tx.turns.seconds_since_end(turn_id)

    async def keyed(self, user_id: str, idempotency_key: str) -> KeyedTurn | None:
        """None where the key is free, also because nobody ran its turn any more."""
        async with self._store.begin(user_id, read_only=True) as tx:
            found = await tx.turns.keyed(idempotency_key)
        if found is None or found.turn.status is not TurnStatus.RUNNING:
            return found
        try:
            turn = await self.get(user_id, found.turn.id)
        except TurnNotFound:
            return None  # deleted since, with its conversation
        is_free = turn.status is not TurnStatus.RUNNING and turn.reply is None
        return None if is_free else found._replace(turn=turn)

    async def end(self, user_id: str, turn: Turn, events: TurnEvents) -> None:
        """Tell the readers how a turn ended."""
        async with self._store.begin(user_id, read_only=True) as tx:
            recorded = await tx.turns.recorded(turn.id)
        if turn.problem is not None:
            events.fail(failure_of(turn), recorded.reply.content if recorded else "")
        elif recorded is not None:
            events.finish(recorded)
        else:
            # It was deleted since it was read.
            events.fail(about(turn, ConversationNotFound()))

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
    return about(turn, recalled(problem.model_dump(exclude_none=True)))


def about(turn: Turn, error: AppError) -> AppError:
    return error.about(turn_id=turn.id, conversation_id=turn.conversation_id)
