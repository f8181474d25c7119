from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    and_,
    delete,
    exists,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from parley.core.caseless import pattern_of
from parley.core.errors import ConversationNotFound
from parley.crud.sql.accounts import hold_account
from parley.crud.sql.workers import tell, workers_of
from parley.models import ConversationRow, MessageRow, utc_now
from parley.schemas.conversations import Conversation, ConversationDraft, ConversationKey


class SqlConversations:
    def __init__(self, session: AsyncSession, user_id: str) -> None:
        self._session = session
        self._user_id = user_id

    async def create(self, conversation_id: UUID, draft: ConversationDraft) -> Conversation:
        await hold_account(self._session, self._user_id)
        row = await self._session.scalar(
            insert(ConversationRow)
            .values(
                user_id=self._user_id,
                id=conversation_id,
                length=0,
                created_at=utc_now(),
                updated_at=utc_now(),
                **_columns(draft.model_dump()),
            )
            .returning(ConversationRow)
        )
        return _entity(row)

    async def get(self, conversation_id: UUID) -> Conversation:
        query = select(ConversationRow).where(self._mine(conversation_id))
        return _entity(await self._session.scalar(query))

    async def lock(self, conversation_id: UUID) -> Conversation:
        # Not against who only refers to it, as an INSERT of its turn does.
        query = select(ConversationRow).where(self._mine(conversation_id))
        return _entity(await self._session.scalar(query.with_for_update(key_share=True)))

    async def newest(
        self, limit: int, after: ConversationKey | None, *, containing: str | None = None
    ) -> Sequence[Conversation]:
        query = select(ConversationRow).where(ConversationRow.user_id == self._user_id)
        if containing is not None:
            query = query.where(self._has(pattern_of(containing)))
        if after is not None:
            place = tuple_(ConversationRow.updated_at, ConversationRow.id)
            query = query.where(place < after)
        query = query.order_by(ConversationRow.updated_at.desc(), ConversationRow.id.desc())
        return [_entity(row) for row in await self._session.scalars(query.limit(limit))]

    async def update(self, conversation_id: UUID, changes: ConversationDraft) -> Conversation:
        row = await self._session.scalar(
            update(ConversationRow)
            .where(self._mine(conversation_id))
            .values(updated_at=utc_now(), **_columns(changes.model_dump(exclude_unset=True)))
            .returning(ConversationRow)
        )
        return _entity(row)

    async def delete(self, conversation_id: UUID) -> None:
        # Until it is gone no turn of it begins.
        await self.lock(conversation_id)
        running_at = await workers_of(self._session, self._user_id, conversation_id)
        await self._session.execute(delete(ConversationRow).where(self._mine(conversation_id)))
        await tell(self._session, running_at)

    def _has(self, pattern: str) -> ColumnElement[bool]:
        is_said = exists().where(
            MessageRow.user_id == self._user_id,
            MessageRow.conversation_id == ConversationRow.id,
            ~MessageRow.superseded,
            MessageRow.content.regexp_match(pattern),
        )
        return or_(ConversationRow.title.regexp_match(pattern), is_said)

    def _mine(self, conversation_id: UUID) -> ColumnElement[bool]:
        return and_(
            ConversationRow.user_id == self._user_id, ConversationRow.id == conversation_id
        )


def _columns(fields: dict[str, Any]) -> dict[str, Any]:
    # `metadata` is SQLAlchemy's own word on a declarative class.
    return {"metadata_" if name == "metadata" else name: value for name, value in fields.items()}


def _entity(row: ConversationRow | None) -> Conversation:
    if row is None:
        raise ConversationNotFound
    return Conversation(
        id=row.id,
        title=row.title,
        instructions=row.instructions,
        metadata=row.metadata_,
        length=row.length,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
