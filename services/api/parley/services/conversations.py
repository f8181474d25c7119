from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from itertools import accumulate
from uuid import UUID

from parley.core.errors import ConversationNotFound, InvalidCursor
from parley.core.ids import new_id
from parley.core.security.cursors import Cursors
from parley.crud.ports import Store, Transaction
from parley.schemas.conversations import (
    Conversation,
    ConversationDraft,
    ConversationKey,
    Message,
    MessageKey,
    Order,
)
from parley.schemas.paging import ConversationDetail, Page
from parley.services.pages import page_of
from parley.services.turns.records import TurnRecords

DETAIL_MESSAGES = 50
# Of a page's messages together, unless it is a single one: an answer stays in memory until it is
# read, and a hundred of the longest are 12 MB and more.
PAGE_CHARACTERS_MAX = 1_000_000
# Ten turns: what is read is cut only when it is there.
EXPORT_PAGE_MESSAGES = 20


class ConversationService:
    """
    A user's conversations and what is in them.

    Every method that names one raises ConversationNotFound for another user's or nobody's.
    """

    def __init__(self, store: Store, records: TurnRecords, cursors: Cursors) -> None:
        self._store = store
        self._records = records
        self._cursors = cursors

    async def create(self, user_id: str, draft: ConversationDraft) -> Conversation:
        async with self._store.begin(user_id) as tx:
            return await tx.conversations.create(new_id(), draft)

    async def newest(
        self, user_id: str, limit: int, cursor: str | None, *, containing: str | None = None
    ) -> Page[Conversation]:
        """
        Newest first; those alone that have this text in their title or a message, if there is one.

        Raises:
            InvalidCursor: it was not given to this user for this list, or for this text.
        """
        listing = "conversations" if containing is None else f"conversations {containing!r}"
        after = None
        if cursor is not None:
            updated_at, last_id = self._cursors.open(user_id, listing, cursor)
            after = ConversationKey(datetime.fromisoformat(updated_at), UUID(last_id))
        async with self._store.begin(user_id, read_only=True) as tx:
            found = await tx.conversations.newest(limit + 1, after, containing=containing)
        return page_of(
            found,
            limit,
            lambda last: self._cursors.seal(
                user_id, listing, [last.updated_at.isoformat(), str(last.id)]
            ),
        )

    async def get(self, user_id: str, conversation_id: UUID) -> ConversationDetail:
        async with self._store.begin(user_id, read_only=True) as tx:
            conversation = await tx.conversations.get(conversation_id)
            newest = await tx.messages.page(
                conversation_id, Order.NEWEST_FIRST, DETAIL_MESSAGES + 1, None
            )
            running = await tx.turns.running(conversation_id)
            is_abandoned = running is not None and await tx.turns.is_abandoned(running.id)
        # Else it is told as it was at that moment, as the messages are.
        if is_abandoned and await self._records.close(user_id, conversation_id):
            running = None
        listing = _listing(conversation_id)
        page = self._page(user_id, listing, Order.NEWEST_FIRST, newest, DETAIL_MESSAGES)
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
        *,
        with_superseded: bool = False,
    ) -> Page[Message]:
        """
        In the order asked for, else in the cursor's, else oldest first.

        Raises:
            InvalidCursor: it was not given to this user for this conversation, this order, and
                these messages.
        """
        listing = _listing(conversation_id, with_superseded=with_superseded)
        after = None
        if cursor is not None:
            direction, position, last_id = self._cursors.open(user_id, listing, cursor)
            if order not in (None, direction):
                raise InvalidCursor
            order, after = Order(direction), MessageKey(position, UUID(last_id))
        order = order or Order.OLDEST_FIRST
        async with self._store.begin(user_id, read_only=True) as tx:
            await tx.conversations.get(conversation_id)
            found = await tx.messages.page(
                conversation_id, order, limit + 1, after, with_superseded=with_superseded
            )
        return self._page(user_id, listing, order, found, limit)

    async def export(
        self, user_id: str, conversation_id: UUID
    ) -> AsyncGenerator[Conversation | Message]:
        """
        The conversation as it is now, then as many messages as its `length` says, oldest first.

        They are read page by page, each when the one before has been taken, in a transaction of its
        own. A page has whole turns: one that is replaced meanwhile comes as it was or as it became,
        never half of each. Turns that are added meanwhile are left out.

        Raises:
            ConversationNotFound: also where it is deleted meanwhile.
        """
        async with self._store.begin(user_id, read_only=True) as tx:
            conversation = await tx.conversations.get(conversation_id)
            turns = await _turns_behind(tx, conversation, None)
        yield conversation
        for message in turns:
            yield message
        while turns and turns[-1].position < conversation.length:
            async with self._store.begin(user_id, read_only=True) as tx:
                turns = await _turns_behind(tx, conversation, turns[-1])
            for message in turns:
                yield message

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
        listing: str,
        order: Order,
        found: Sequence[Message],
        limit: int,
    ) -> Page[Message]:
        """`found` has one more than the limit where there is another page; long ones end it early."""
        totals = accumulate(len(message.content) for message in found[:limit])
        fitting = sum(total <= PAGE_CHARACTERS_MAX for total in totals)
        return page_of(
            found,
            max(fitting, 1),
            lambda last: self._cursors.seal(
                user_id, listing, [order, last.position, str(last.id)]
            ),
        )


def _listing(conversation_id: UUID, *, with_superseded: bool = False) -> str:
    return f"{'all messages' if with_superseded else 'messages'} {conversation_id}"


async def _turns_behind(
    tx: Transaction, conversation: Conversation, last: Message | None
) -> Sequence[Message]:
    """As many whole turns as a page has room for, one at least, of those that its length counts."""
    after = None if last is None else MessageKey(last.position, last.id)
    found = await tx.messages.page(
        conversation.id, Order.OLDEST_FIRST, EXPORT_PAGE_MESSAGES, after
    )
    if last is not None and not found:
        raise ConversationNotFound
    counted = [message for message in found if message.position <= conversation.length]
    totals = [*accumulate(len(message.content) for message in counted)]
    # A turn has two messages.
    fitting = sum(total <= PAGE_CHARACTERS_MAX for total in totals[1::2])
    return counted[: 2 * max(fitting, 1)]
