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
from parley.schemas.turns import ChatReply, NewTurn, Reply, Turn


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
            TurnInProgress: it is taken. The transaction must be rolled back, for either.
        """
        ...

    async def record(
        self, turn: NewTurn, length: int, reply: Reply, problem: Problem | None
    ) -> ChatReply:
        """
        Write both messages at positions `length + 1` and `length + 2`, and end the turn.

        Doing it again after an unknown outcome is safe: what was recorded is returned.

        Raises:
            ConversationNotFound: it was deleted meanwhile, and the turn with it.
            ConversationMoved: its length is another.
            WorkerLost: somebody has closed the turn, for want of a lease.
        """
        ...

    async def fail(self, turn: NewTurn, problem: Problem) -> None:
        """
        End the turn without messages. Nothing happens to one that has ended.

        Raises:
            ConversationNotFound: it was deleted meanwhile, and the turn with it.
        """
        ...

    async def get(self, turn_id: UUID) -> Turn:
        """
        Raises:
            TurnNotFound: it is another user's, or nobody's.
        """
        ...

    async def running(self, conversation_id: UUID) -> Turn | None: ...


class Messages(Protocol):
    async def history(self, conversation_id: UUID, limit: int) -> Sequence[Message]:
        """The newest `limit` that a model may see, oldest first: no failed turn's."""
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
