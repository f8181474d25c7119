"""How a turn ends in the store."""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import TypeVar

from parley.core.errors import AppError, DatabaseUnavailable, Overloaded, TurnCancelled
from parley.core.ids import new_id
from parley.core.places import Places
from parley.crud.ports import Store, Transaction
from parley.schemas.conversations import MessageStatus
from parley.schemas.turns import ChatReply, Reply
from parley.services.turns.events import problem_of
from parley.services.turns.listening import Heard
from parley.services.turns.runner import LiveTurn, status_of

AWAY_SECONDS = 2.5
BUSY_SECONDS = 30.0
AGAIN_SECONDS = 0.2

Ended = TypeVar("Ended")


class Recorder:
    """
    `at_once` turns of a process are recorded at once, as many as there are connections: the others
    wait here, where nobody's time runs out.
    """

    def __init__(self, store: Store, *, at_once: int) -> None:
        self._store = store
        self._places = Places(at_once)

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
        return await self._insist(
            live, lambda tx: tx.turns.record(live.turn, length, reply, problem)
        )

    async def close(self, live: LiveTurn, error: AppError) -> None:
        """
        Without messages.

        Raises:
            AppError: as `record`.
        """
        status, problem = status_of(error), problem_of(error)
        await self._insist(live, lambda tx: tx.turns.close(live.turn, status, problem))

    async def _insist(
        self, live: LiveTurn, end: Callable[[Transaction], Awaitable[Ended]]
    ) -> Ended:
        """A turn is too dear to lose to a hiccup; ending it twice is the same as once."""
        clock = asyncio.get_running_loop().time
        began_at = inf
        while True:
            try:
                async with self._places.taken(live.user_id):
                    began_at = min(began_at, clock())
                    async with self._store.begin(live.user_id) as tx:
                        ended = await end(tx)
            except (DatabaseUnavailable, Overloaded) as error:
                patience = BUSY_SECONDS if isinstance(error, Overloaded) else AWAY_SECONDS
                if clock() + AGAIN_SECONDS > began_at + patience:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                live.is_open = False
                return ended


def _status_of(error: AppError | None) -> MessageStatus:
    if error is None:
        return MessageStatus.COMPLETE
    is_wanted = isinstance(error, TurnCancelled)
    return MessageStatus.CANCELLED if is_wanted else MessageStatus.FAILED
