from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from uuid import UUID

from parley.core.errors import InvalidCursor, WorkerLost
from parley.core.ids import new_id
from parley.core.security.cursors import Cursors
from parley.crud.ports import Store
from parley.schemas.conversations import (
    Conversation,
    ConversationDraft,
    ConversationKey,
    Message,
    Order,
)
from parley.schemas.paging import ConversationDetail, Page
from parley.services.turns.events import problem_of

DETAIL_MESSAGES = 50
# Of a page's messages together, unless it is a single one: an answer stays in memory until it is
# read, and a hundred of the longest are 12 MB and more.
PAGE_CHARACTERS_MAX = 1_000_000
_CONVERSATIONS = "conversations"


class ConversationService:
    """
    A user's conversations and what is in them.

    Every method that names one raises ConversationNotFound for another user's or nobody's.
    """

    def __init__(self, store: Store, cursors: Cursors) -> None:
        self._store = store
        self._cursors = cursors

    async def create(self, user_id: str, draft: ConversationDraft) -> Conversation:
        async with self._store.begin(user_id) as tx:
            return await tx.conversations.create(new_id(), draft)

    async def newest(self, user_id: str, limit: int, cursor: str | None) -> Page[Conversation]:
        """
        Newest first.

        Raises:
            InvalidCursor: it was not given to this user for this list.
        """
        after = None
        if cursor is not None:
            updated_at, last_id = self._cursors.open(user_id, _CONVERSATIONS, cursor)
            after = ConversationKey(datetime.fromisoformat(updated_at), UUID(last_id))
        async with self._store.begin(user_id, read_only=True) as tx:
            found = await tx.conversations.newest(limit + 1, after)
        items = [*found[:limit]]
        if len(found) <= limit:
            return Page(items=items, next_cursor=None)
        place = [items[-1].updated_at.isoformat(), str(items[-1].id)]
        return Page(items=items, next_cursor=self._cursors.seal(user_id, _CONVERSATIONS, place))

    async def get(self, user_id: str, conversation_id: UUID) -> ConversationDetail:
        async with self._store.begin(user_id, read_only=True) as tx:
            conversation = await tx.conversations.get(conversation_id)
            newest = await tx.messages.page(
                conversation_id, Order.NEWEST_FIRST, DETAIL_MESSAGES + 1, None
            )
            running = await tx.turns.running(conversation_id)
        if running is not None:
            # It may be that nobody runs it any more; whoever meets it closes it.
            async with self._store.begin(user_id) as tx:
                if await tx.turns.close_abandoned(conversation_id, problem_of(WorkerLost())):
                    running = None
        page = self._page(user_id, conversation_id, Order.NEWEST_FIRST, newest, DETAIL_MESSAGES)
        return ConversationDetail(
            **dict(conversation),
            messages=page.items[::-1],
            messages_cursor=page.next_cursor,
            running_turn=running,
        )

    async def messages(
        self,
        user_id: str,
        conversation_id: UUID,
        order: Order | None,
        limit: int,
        cursor: str | None,
    ) -> Page[Message]:
        """
        In the order asked for, else in the cursor's, else oldest first.

        Raises:
            InvalidCursor: it was not given to this user for this conversation and this order.
        """
        after = None
        if cursor is not None:
            direction, after = self._cursors.open(user_id, str(conversation_id), cursor)
            if order not in (None, direction):
                raise InvalidCursor
            order = Order(direction)
        order = order or Order.OLDEST_FIRST
        async with self._store.begin(user_id, read_only=True) as tx:
            await tx.conversations.get(conversation_id)
            found = await tx.messages.page(conversation_id, order, limit + 1, after)
        return self._page(user_id, conversation_id, order, found, limit)

    async def update(
        self, user_id: str, conversation_id: UUID, changes: ConversationDraft
    ) -> Conversation:
        """Only the fields that `changes` names; naming none changes nothing, nor the order."""
        async with self._store.begin(user_id) as tx:
            if not changes.model_fields_set:
                return await tx.conversations.get(conversation_id)
            return await tx.conversations.update(conversation_id, changes)

    async def replace(
        self, user_id: str, conversation_id: UUID, draft: ConversationDraft
    ) -> Conversation:
        """All of it: what the draft leaves out goes back to what a new one has."""
        whole = draft.model_copy(update=draft.model_dump())
        async with self._store.begin(user_id) as tx:
            return await tx.conversations.update(conversation_id, whole)

    async def delete(self, user_id: str, conversation_id: UUID) -> None:
        async with self._store.begin(user_id) as tx:
            await tx.conversations.delete(conversation_id)

    def _page(
        self,
        user_id: str,
        conversation_id: UUID,
        order: Order,
        found: Sequence[Message],
        limit: int,
    ) -> Page[Message]:
        """`found` has one more than the limit where there is another page; long ones end it early."""
        totals = accumulate(len(message.content) for message in found[:limit])
        fitting = sum(total <= PAGE_CHARACTERS_MAX for total in totals)
        items = [*found[: max(fitting, 1)]]
        if len(items) == len(found):
            return Page(items=items, next_cursor=None)
        place = [order, items[-1].position]
        return Page(
            items=items, next_cursor=self._cursors.seal(user_id, str(conversation_id), place)
        )
