"""How a turn ends in the store."""

import asyncio

from parley.core.errors import AppError, DatabaseUnavailable, Overloaded, TurnCancelled
from parley.core.ids import new_id
from parley.crud.ports import Store
from parley.schemas.conversations import MessageStatus
from parley.schemas.turns import ChatReply, Reply
from parley.services.turns.events import problem_of
from parley.services.turns.listening import Heard
from parley.services.turns.runner import LiveTurn, status_of

AWAY_SECONDS = 2.5
BUSY_SECONDS = 30.0
AGAIN_SECONDS = 0.2


class Recorder:
    """
    `at_once` turns of a process are recorded at once, and no more than there are connections: the
    others wait here, where nobody's time runs out.
    """

    def __init__(self, store: Store, *, at_once: int) -> None:
        self._store = store
        self._at_once = asyncio.Semaphore(at_once)

    async def record(self, live: LiveTurn, length: int, heard: Heard) -> ChatReply:
        """
        Both messages, as far as the reply came.

        Raises:
            ConversationNotFound: it was deleted meanwhile.
            ConversationMoved, WorkerLost: another turn was recorded first.
            DatabaseUnavailable, Overloaded: the store did not take it, for long; the runner tries on.
        """
        reply = Reply(
            message_id=new_id(),
            id=new_id(),
            content=heard.text,
            status=_status_of(heard.error),
            model=heard.receipt.model,
            usage=heard.receipt.usage and dict(heard.receipt.usage),
        )
        is_failed = reply.status is MessageStatus.FAILED
        problem = problem_of(heard.error) if is_failed and heard.error else None
        live.unrecorded = (length, reply, problem)
        clock = asyncio.get_running_loop().time
        async with self._at_once:
            began_at = clock()
            while True:
                try:
                    async with self._store.begin(live.user_id) as tx:
                        recorded = await tx.turns.record(live.turn, length, reply, problem)
                except (DatabaseUnavailable, Overloaded) as error:
                    # A reply is too dear to lose to a hiccup; recording it twice is the same as once.
                    patience = BUSY_SECONDS if isinstance(error, Overloaded) else AWAY_SECONDS
                    if clock() + AGAIN_SECONDS > began_at + patience:
                        raise
                    await asyncio.sleep(AGAIN_SECONDS)
                else:
                    live.is_open = False
                    return recorded

    async def close(self, live: LiveTurn, error: AppError) -> None:
        """Without messages."""
        async with self._at_once, self._store.begin(live.user_id) as tx:
            await tx.turns.close(live.turn, status_of(error), problem_of(error))
        live.is_open = False


def _status_of(error: AppError | None) -> MessageStatus:
    if error is None:
        return MessageStatus.COMPLETE
    is_wanted = isinstance(error, TurnCancelled)
    return MessageStatus.CANCELLED if is_wanted else MessageStatus.FAILED
