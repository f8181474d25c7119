import re
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from parley.core.caseless import pattern_of
from parley.core.errors import ConversationNotFound
from parley.crud.memory.accounts import hold_account
from parley.crud.memory.tables import Tables, owned
from parley.schemas.conversations import Conversation, ConversationDraft, ConversationKey
from parley.schemas.turns import TurnStatus


class MemoryConversations:
    def __init__(self, tables: Tables, user_id: str) -> None:
        self._tables = tables
        self._user_id = user_id

    async def create(self, conversation_id: UUID, draft: ConversationDraft) -> Conversation:
        hold_account(self._tables, self._user_id)
        now = datetime.now(UTC)
        return self._put(
            Conversation(
                id=conversation_id,
                length=0,
                created_at=now,
                updated_at=now,
                **draft.model_dump(),
            )
        )

    async def get(self, conversation_id: UUID) -> Conversation:
        try:
            return self._tables.conversations[f"{self._user_id}/{conversation_id}"]
        except KeyError:
            raise ConversationNotFound from None

    async def lock(self, conversation_id: UUID) -> Conversation:
        # One user's transactions run one after the other.
        return await self.get(conversation_id)

    async def newest(
        self, limit: int, after: ConversationKey | None, *, containing: str | None = None
    ) -> Sequence[Conversation]:
        conversations = sorted(
            owned(self._tables.conversations, self._user_id).values(), key=_key, reverse=True
        )
        if containing is not None:
            found = self._having(pattern_of(containing))
            conversations = [c for c in conversations if c.id in found]
        return [c for c in conversations if after is None or _key(c) < after][:limit]

    async def update(self, conversation_id: UUID, changes: ConversationDraft) -> Conversation:
        conversation = await self.get(conversation_id)
        return self._put(
            conversation.model_copy(
                update={"updated_at": datetime.now(UTC)} | changes.model_dump(exclude_unset=True)
            )
        )

    async def delete(self, conversation_id: UUID) -> None:
        await self.get(conversation_id)
        del self._tables.conversations[f"{self._user_id}/{conversation_id}"]
        for key, stored in owned(self._tables.turns, self._user_id).items():
            if stored.turn.conversation_id == conversation_id:
                del self._tables.turns[key]
                if stored.turn.status is TurnStatus.RUNNING:
                    self._tables.tell(stored.worker_id)
        for key, kept in owned(self._tables.messages, self._user_id).items():
            if kept.message.conversation_id == conversation_id:
                del self._tables.messages[key]

    def _having(self, pattern: str) -> set[UUID]:
        titles = owned(self._tables.conversations, self._user_id).values()
        messages = owned(self._tables.messages, self._user_id).values()
        return {c.id for c in titles if re.search(pattern, c.title)} | {
            stored.message.conversation_id
            for stored in messages
            if not stored.superseded and re.search(pattern, stored.message.content)
        }

    def _put(self, conversation: Conversation) -> Conversation:
        self._tables.conversations[f"{self._user_id}/{conversation.id}"] = conversation
        return conversation


def _key(conversation: Conversation) -> ConversationKey:
    return ConversationKey(conversation.updated_at, conversation.id)
