from collections.abc import Sequence
from itertools import accumulate
from operator import gt, lt
from uuid import UUID

from parley.crud.memory.tables import StoredMessage, Tables, owned
from parley.schemas.conversations import Message, MessageKey, Order
from parley.schemas.turns import TurnStatus


class MemoryMessages:
    def __init__(self, tables: Tables, user_id: str) -> None:
        self._tables = tables
        self._user_id = user_id

    async def history(
        self, conversation_id: UUID, up_to: int, *, max_messages: int, max_characters: int
    ) -> Sequence[Message]:
        visible = [
            stored.message
            for stored in self._in_order(conversation_id)
            if stored.message.position <= up_to
            and not stored.superseded
            and self._status(stored.turn_id) is not TurnStatus.FAILED
        ]
        newest = visible[::-1][:max_messages]
        totals = accumulate(len(message.content) for message in newest)
        return newest[: sum(total <= max_characters for total in totals)][::-1]

    async def page(
        self,
        conversation_id: UUID,
        order: Order,
        limit: int,
        after: MessageKey | None,
        *,
        with_superseded: bool = False,
    ) -> Sequence[Message]:
        # Of those that are shown a position has one, whose successor may have another id.
        parts = 2 if with_superseded else 1
        messages = [
            stored.message.model_copy(update={"superseded": stored.superseded})
            if with_superseded
            else stored.message
            for stored in self._in_order(conversation_id)
            if with_superseded or not stored.superseded
        ]
        is_behind = gt
        if order is Order.NEWEST_FIRST:
            messages, is_behind = messages[::-1], lt
        if after is not None:
            last = after[:parts]
            messages = [m for m in messages if is_behind(_key(m)[:parts], last)]
        return messages[:limit]

    def _in_order(self, conversation_id: UUID) -> list[StoredMessage]:
        return sorted(
            (
                stored
                for stored in owned(self._tables.messages, self._user_id).values()
                if stored.message.conversation_id == conversation_id
            ),
            key=lambda stored: _key(stored.message),
        )

    def _status(self, turn_id: UUID) -> TurnStatus:
        return self._tables.turns[f"{self._user_id}/{turn_id}"].turn.status


def _key(message: Message) -> MessageKey:
    return MessageKey(message.position, message.id)
