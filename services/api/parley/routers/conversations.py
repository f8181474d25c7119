from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from parley.core.errors import (
    AccountGone,
    ConversationNotFound,
    InvalidCursor,
    RateLimited,
    TooManyStreams,
)
from parley.dependencies.auth import UserId
from parley.dependencies.limits import RequestLimits
from parley.dependencies.paging import LIMIT, Cursor, Limit, Sought
from parley.dependencies.services import Conversations
from parley.routers._lines import JsonLines, lines_of
from parley.routers._responses import BODY, STORE, TOKEN, JsonRoute, problems
from parley.schemas.conversations import (
    Conversation,
    ConversationDraft,
    ConversationPatch,
    Message,
    Order,
)
from parley.schemas.paging import ConversationDetail, Deleted, Page

# As OpenAPI 3.2 has it for sequential media types: as if all the lines were one array.
_LINES = {
    "type": "array",
    "items": {
        "anyOf": [
            {"$ref": "#/components/schemas/Conversation"},
            {"$ref": "#/components/schemas/Message"},
        ]
    },
}

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


@router.get("", responses=problems(InvalidCursor, *TOKEN, RateLimited, *STORE))
async def list_conversations(
    user_id: UserId,
    conversations: Conversations,
    limits: RequestLimits,
    *,
    q: Sought = None,
    limit: Limit = LIMIT,
    cursor: Cursor = None,
) -> Page[Conversation]:
    """
    Your conversations, or those whose title or messages have `q` in them; the last changed come first.

    Messages that were replaced do not count. Two searches of yours may run at once.
    """
    if q is not None:
        limits.enter_search(user_id)
    return await conversations.newest(user_id, limit, cursor, containing=q)


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
    superseded: Annotated[
        bool,
        Query(
            description="Also messages that were replaced, or that failed to replace others; in the"
            " order of position, then id. `superseded` of each says whether another is shown in its"
            " place. Send it again with each `cursor`."
        ),
    ] = False,
    limit: Limit = LIMIT,
    cursor: Cursor = None,
) -> Page[Message]:
    """
    What was said in it.

    A page of long messages ends before `limit`: there is more as long as there is a `next_cursor`.
    """
    return await conversations.messages(
        user_id, conversation_id, order, limit, cursor, with_superseded=superseded
    )


@router.get(
    "/{conversation_id}/export",
    status_code=200,
    response_class=JsonLines,
    responses={
        200: {
            "description": "JSON Lines: the conversation, then a message a line, oldest first.",
            "content": {JsonLines.media_type: {"schema": _LINES}},
        },
        **problems(*TOKEN, ConversationNotFound, TooManyStreams, *STORE),
    },
)
async def export_conversation(
    user_id: UserId,
    conversation_id: UUID,
    conversations: Conversations,
    limits: RequestLimits,
) -> Response:
    """
    All of one conversation, as a file.

    It is whole where as many messages follow as the conversation's `length` says. What breaks it off,
    such as deleting the conversation meanwhile, ends the connection before its end.
    """
    await limits.take_reading_slot(user_id)
    lines = lines_of(conversations.export(user_id, conversation_id))
    # A refusal is raised here, before anything is sent: a problem, never half a file.
    first = await anext(lines)
    return JsonLines(first, lines, filename=f"conversation-{conversation_id}.jsonl")
