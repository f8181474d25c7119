from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from parley.core.errors import AccountGone, ConversationNotFound, InvalidCursor, RateLimited
from parley.dependencies.auth import UserId
from parley.dependencies.limits import RequestLimits
from parley.dependencies.paging import LIMIT, Cursor, Limit
from parley.dependencies.services import Conversations
from parley.routers._responses import BODY, STORE, TOKEN, JsonRoute, problems
from parley.schemas.conversations import (
    Conversation,
    ConversationDraft,
    ConversationPatch,
    Message,
    Order,
)
from parley.schemas.paging import ConversationDetail, Deleted, Page

router = APIRouter(prefix="/conversations", tags=["conversations"], route_class=JsonRoute)


@router.post(
    "", status_code=201, responses=problems(*TOKEN, AccountGone, *BODY, RateLimited, *STORE)
)
async def create_conversation(
    user_id: UserId, draft: ConversationDraft, conversations: Conversations, limits: RequestLimits
) -> Conversation:
    """
    Start a conversation without a message, to give it a title, instructions or metadata.

    It counts as a message does.
    """
    await limits.count_message(user_id)
    return await conversations.create(user_id, draft)


@router.get("", responses=problems(InvalidCursor, *TOKEN, *STORE))
async def list_conversations(
    user_id: UserId, conversations: Conversations, limit: Limit = LIMIT, cursor: Cursor = None
) -> Page[Conversation]:
    """Your conversations; the last changed come first."""
    return await conversations.newest(user_id, limit, cursor)


@router.get("/{conversation_id}", responses=problems(*TOKEN, ConversationNotFound, *STORE))
async def get_conversation(
    user_id: UserId, conversation_id: UUID, conversations: Conversations
) -> ConversationDetail:
    """One conversation with its newest messages, and the turn that is being answered, if any."""
    return await conversations.get(user_id, conversation_id)


@router.put("/{conversation_id}", responses=problems(*TOKEN, ConversationNotFound, *BODY, *STORE))
async def replace_conversation(
    user_id: UserId,
    conversation_id: UUID,
    draft: ConversationDraft,
    conversations: Conversations,
) -> Conversation:
    """Set title, instructions and metadata; what is left out goes back to its default."""
    return await conversations.replace(user_id, conversation_id, draft)


@router.patch(
    "/{conversation_id}", responses=problems(*TOKEN, ConversationNotFound, *BODY, *STORE)
)
async def update_conversation(
    user_id: UserId,
    conversation_id: UUID,
    changes: ConversationPatch,
    conversations: Conversations,
) -> Conversation:
    """Set what the body names; `metadata` is replaced as a whole."""
    return await conversations.update(user_id, conversation_id, changes)


@router.delete("/{conversation_id}", responses=problems(*TOKEN, ConversationNotFound, *STORE))
async def delete_conversation(
    user_id: UserId, conversation_id: UUID, conversations: Conversations
) -> Deleted:
    """Delete it with its messages. There is no way back."""
    await conversations.delete(user_id, conversation_id)
    return Deleted(id=str(conversation_id))


@router.get(
    "/{conversation_id}/messages",
    responses=problems(InvalidCursor, *TOKEN, ConversationNotFound, *STORE),
)
async def list_messages(
    user_id: UserId,
    conversation_id: UUID,
    conversations: Conversations,
    *,
    order: Annotated[
        Order | None,
        Query(description="`asc`, oldest first, unless the cursor says otherwise."),
    ] = None,
    limit: Limit = LIMIT,
    cursor: Cursor = None,
) -> Page[Message]:
    """
    What was said in it.

    A page of long messages ends before `limit`: there is more as long as there is a `next_cursor`.
    """
    return await conversations.messages(user_id, conversation_id, order, limit, cursor)
