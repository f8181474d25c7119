from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from parley.models import MessageRow, TurnRow
from parley.schemas.conversations import Message, MessageKey, MessageStatus, Order, Role
from parley.schemas.files import FileMetadata


class SqlMessages:
    def __init__(self, session: AsyncSession, user_id: str) -> None:
        self._session = session
        self._user_id = user_id

    async def history(
        self, conversation_id: UUID, up_to: int, *, max_messages: int, max_characters: int
    ) -> Sequence[Message]:
        newest = (
            self._shown(conversation_id)
            .where(MessageRow.status != MessageStatus.FAILED, MessageRow.position <= up_to)
            .order_by(MessageRow.position.desc())
            .limit(max_messages)
            .subquery()
        )
        # Counted there: what does not fit is not worth its way.
        total = func.sum(func.length(newest.c.content)).over(order_by=newest.c.position.desc())
        counted = select(newest, total.label("total")).subquery()
        query = select(aliased(MessageRow, counted)).where(counted.c.total <= max_characters)
        rows = await self._session.scalars(query.order_by(counted.c.position))
        return [message_of(row) for row in rows]

    async def page(
        self,
        conversation_id: UUID,
        order: Order,
        limit: int,
        after: MessageKey | None,
        *,
        with_superseded: bool = False,
    ) -> Sequence[Message]:
        query = (self._all if with_superseded else self._shown)(conversation_id)
        # Of those that are shown a position has one, whose successor may have another id.
        parts = 2 if with_superseded else 1
        key = (MessageRow.position, MessageRow.id)[:parts]
        oldest_first = order is Order.OLDEST_FIRST
        if after is not None:
            place, last = tuple_(*key), after[:parts]
            query = query.where(place > last if oldest_first else place < last)
        query = query.order_by(*(part if oldest_first else part.desc() for part in key))
        rows = await self._session.scalars(query.limit(limit))
        if not with_superseded:
            return [message_of(row) for row in rows]
        return [message_of(row).model_copy(update={"superseded": row.superseded}) for row in rows]

    def _shown(self, conversation_id: UUID) -> Select[MessageRow]:
        # In the words of the partial index's condition, which serves only a query that has it.
        return self._all(conversation_id).where(~MessageRow.superseded)

    def _all(self, conversation_id: UUID) -> Select[MessageRow]:
        return select(MessageRow).where(
            MessageRow.user_id == self._user_id, MessageRow.conversation_id == conversation_id
        )


def message_of(row: MessageRow) -> Message:
    role = Role(row.role)
    return Message(
        id=row.id,
        conversation_id=row.conversation_id,
        position=row.position,
        role=role,
        content=row.content,
        # Stored on both of a turn's messages, said of the reply only.
        status=MessageStatus.COMPLETE if role is Role.USER else MessageStatus(row.status),
        model=row.model,
        usage=row.usage,
        attachments=attachments_of(row),
        created_at=row.created_at,
    )


def attachments_of(row: MessageRow | TurnRow) -> list[FileMetadata]:
    return [FileMetadata.model_validate(file) for file in row.attachments or ()]
