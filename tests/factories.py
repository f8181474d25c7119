"""What tests make over and over."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from obstore.store import MemoryStore as MemoryObjects

from parley.core.ids import new_id
from parley.crud.objects.blobs import ObjectBlobs
from parley.crud.ports import Store
from parley.schemas.conversations import (
    Conversation,
    ConversationDraft,
    Message,
    MessageStatus,
    Order,
)
from parley.schemas.files import FileMetadata, NewFile, StorageQuota
from parley.schemas.problem import Problem
from parley.schemas.turns import ChatReply, NewTurn, Reply
from parley.services.files.erasing import Eraser
from parley.services.files.service import Upload

PROBLEM = Problem(type="/problems/x", title="X", status=502, detail="Why.", code="x")


def new_turn(
    conversation_id: UUID,
    message: str = "hello",
    *,
    worker_id: UUID | None = None,
    **fields: Any,
):
    return NewTurn(
        id=new_id(),
        conversation_id=conversation_id,
        message=message,
        worker_id=worker_id or new_id(),
        fence=new_id(),
        **fields,
    )


def new_reply(content: str = "ok", status: MessageStatus = MessageStatus.COMPLETE):
    return Reply(id=new_id(), message_id=new_id(), content=content, status=status, model="echo")


def session_of(user_id: str) -> UUID:
    """The one session of a user of the tests."""
    return uuid5(NAMESPACE_URL, user_id)


async def make_account(store: Store, user_id: str) -> str:
    """With a session, so that a token for it counts."""
    async with store.begin(user_id) as tx:
        await tx.accounts.create(f"{user_id}@example.com", "hash")
        await tx.sessions.open(session_of(user_id), f"hash of {user_id}", 3600)
    return user_id


async def make_conversation(store: Store, user_id: str, **fields: Any) -> Conversation:
    async with store.begin(user_id) as tx:
        return await tx.conversations.create(new_id(), ConversationDraft(**fields))


def new_file(**fields: Any):
    given = {"filename": "a.txt", "content_type": "text/plain", "size": 5, "sha256": "0" * 64}
    return NewFile(id=new_id(), **given | fields)


def metadata_of(**fields: Any):
    """Of a file that nobody has."""
    return FileMetadata(**new_file(**fields).model_dump(), created_at=datetime.now(UTC))


def new_eraser() -> Eraser:
    """Of a file store that has nothing."""
    return Eraser(ObjectBlobs(MemoryObjects))


def upload_of(content: str, **fields: Any) -> Upload:
    """Text that is on its way."""

    async def pieces() -> AsyncGenerator[bytes]:
        yield content.encode()

    given = {"filename": "a.txt", "content_type": "text/plain"}
    return Upload(**given | fields, pieces=pieces())


async def make_file(store: Store, user_id: str, **fields: Any) -> FileMetadata:
    """What is known of one; it has no bytes."""
    async with store.begin(user_id) as tx:
        return await tx.files.add(new_file(**fields), StorageQuota(2**40, 10_000))


async def accept(store: Store, user_id: str, turn: NewTurn) -> NewTurn:
    async with store.begin(user_id) as tx:
        await tx.turns.accept(turn)
    return turn


async def record(
    store: Store,
    user_id: str,
    conversation_id: UUID,
    message: str = "hello",
    status: MessageStatus = MessageStatus.COMPLETE,
    **fields: Any,
) -> ChatReply:
    """One whole turn."""
    turn = await accept(store, user_id, new_turn(conversation_id, message, **fields))
    problem = None if status is MessageStatus.COMPLETE else PROBLEM
    async with store.begin(user_id) as tx:
        length = (await tx.conversations.get(conversation_id)).length
        reply = new_reply(f"re: {message}", status)
        return await tx.turns.record(turn, length, reply, problem)


async def replace(store: Store, user_id: str, last: ChatReply, message: str) -> ChatReply:
    """A turn that takes the last one's place."""
    return await record(store, user_id, last.conversation_id, message, replaces=last.turn_id)


async def messages_of(store: Store, user_id: str, conversation_id: UUID | str) -> list[Message]:
    async with store.begin(user_id, read_only=True) as tx:
        return [*await tx.messages.page(UUID(str(conversation_id)), Order.OLDEST_FIRST, 100, None)]
