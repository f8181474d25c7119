"""Doors to what was said."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from parley.schemas.conversations import (
    Conversation,
    ConversationDraft,
    ConversationKey,
    Message,
    MessageKey,
    Order,
)
from parley.schemas.problem import Problem
from parley.schemas.turns import ChatReply, KeyedTurn, NewTurn, Reply, Turn, TurnStatus


class Conversations(Protocol):
    async def create(self, conversation_id: UUID, draft: ConversationDraft) -> Conversation:
        """
        Raises:
            AccountGone: the user's local account was deleted, and nothing of theirs is to come back.
        """
        ...

    async def get(self, conversation_id: UUID) -> Conversation:
        """
        Raises:
            ConversationNotFound: it is another user's, or nobody's.
        """
        ...

    async def lock(self, conversation_id: UUID) -> Conversation:
        """
        The same; until the transaction ends nobody accepts or records in it, or deletes it.

        Before anything of its turns is locked: two orders of locks would be a deadlock.
        """
        ...

    async def newest(
        self, limit: int, after: ConversationKey | None, *, containing: str | None = None
    ) -> Sequence[Conversation]:
        """
        The last changed come first; `after` is the last one of the page before.

        `containing`: those alone whose title has this text, or a message that is shown, in
        whatever case (`core.caseless`).
        """
        ...

    async def update(self, conversation_id: UUID, changes: ConversationDraft) -> Conversation:
        """
        Set the fields that `changes` names (its `model_fields_set`).

        Raises:
            ConversationNotFound: it is another user's, or nobody's.
        """
        ...

    async def delete(self, conversation_id: UUID) -> None:
        """
        With its turns and messages.

        Raises:
            ConversationNotFound: it is another user's, or nobody's.
        """
        ...


class Turns(Protocol):
    async def is_abandoned(self, turn_id: UUID) -> bool:
        """Whether it runs, and its worker's lease has run out."""
        ...

    async def close_abandoned(self, conversation_id: UUID, problem: Problem) -> bool:
        """End, as failed, a running turn whose worker's lease has run out, if there is one."""
        ...

    async def accept(self, turn: NewTurn) -> None:
        """
        Take the conversation's one running slot.

        Until the turn has ended nobody else records in it, and until this transaction has ended
        nobody deletes it.

        Raises:
            ConversationNotFound: it is another user's, or nobody's.
            TurnInProgress: it is taken, or the idempotency key is. The transaction must be rolled
                back, for either.
        """
        ...

    async def record(
        self, turn: NewTurn, length: int, reply: Reply, problem: Problem | None
    ) -> ChatReply:
        """
        Write both messages behind the `length` there are, and end the turn.

        One that replaces another takes its positions and hides it; if it failed, it is hidden itself.
        Doing it again after an unknown outcome is safe: what was recorded is returned.

        Raises:
            ConversationNotFound: it was deleted meanwhile, and the turn with it.
            ConversationMoved: its length is another.
            WorkerLost: somebody has closed the turn, for want of a lease.
        """
        ...

    async def close(self, turn: NewTurn, status: TurnStatus, problem: Problem) -> None:
        """
        End the turn without messages; its key is free again. Nothing happens to one that has ended.

        Raises:
            ConversationNotFound: it was deleted meanwhile, and the turn with it.
            WorkerLost: somebody has closed the turn, for want of a lease.
        """
        ...

    async def get(self, turn_id: UUID) -> Turn:
        """
        Raises:
            TurnNotFound: it is another user's, or nobody's.
        """
        ...

    async def seconds_since_end(self, turn_id: UUID) -> float:
        """By the store's clock; 0 for a turn that runs, or is not there."""
        ...

    async def recorded(self, turn_id: UUID) -> ChatReply | None:
        """Both messages, if there are any; also those that another turn has replaced."""
        ...

    async def running(self, conversation_id: UUID) -> Turn | None: ...

    async def last(self, conversation_id: UUID) -> Turn | None:
        """Whose messages are the newest that are shown."""
        ...

    async def keyed(self, idempotency_key: str) -> KeyedTurn | None:
        """None also where the key is free again."""
        ...

    async def request_cancel(self, turn_id: UUID) -> Turn:
        """
        Have its worker told that a running turn is to end: its count of `Store.cancels` goes up, once.

        Raises:
            TurnNotFound: it is another user's, or nobody's.
        """
        ...

    async def wanted(self, worker_id: UUID) -> Sequence[UUID]:
        """The user's running turns of this worker that are to go on."""
        ...


class Messages(Protocol):
    async def history(
        self, conversation_id: UUID, up_to: int, *, max_messages: int, max_characters: int
    ) -> Sequence[Message]:
        """
        The newest that a model may see, oldest first: no failed turn's, none behind position `up_to`.

        As many as fit: the oldest may be a reply without its message.
        """
        ...

    async def page(
        self,
        conversation_id: UUID,
        order: Order,
        limit: int,
        after: MessageKey | None,
        *,
        with_superseded: bool = False,
    ) -> Sequence[Message]:
        """
        By position; `with_superseded` those that were replaced too, by position and id.

        `after` is the last one of the page before. Empty for a conversation not there.
        """
        ...
