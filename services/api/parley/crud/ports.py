"""
The doors to storage. Services know these names and nothing behind them.

Every method of a transaction touches only the rows of the user it was begun for; what belongs to
somebody else is, to it, not there. Each may raise `DatabaseUnavailable` or `Overloaded`.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from parley.schemas.accounts import Account, Credential, Rotation
from parley.schemas.conversations import (
    Conversation,
    ConversationDraft,
    ConversationKey,
    Message,
    Order,
)
from parley.schemas.health import Pool
from parley.schemas.keys import ApiKey, NewKey
from parley.schemas.limits import Quota, Standing
from parley.schemas.problem import Problem
from parley.schemas.turns import ChatReply, NewTurn, Reply, Turn

SCHEMA_REVISION = "0002"
"""The migration that this code was written for: the newest of `migrations/versions`."""
LEASE_SECONDS = 10
"""How long a process may be silent before its turns count as lost; by the store's clock."""
DEAD_SECONDS = 3600
"""How long after its lease a silent process is remembered."""
SLOT_SECONDS = 15
"""How long a user's slot is taken after the process that holds it was last heard of."""


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

    async def newest(self, limit: int, after: ConversationKey | None) -> Sequence[Conversation]:
        """The last changed come first; `after` is the last one of the page before."""
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
        self, conversation_id: UUID, order: Order, limit: int, after: int | None
    ) -> Sequence[Message]:
        """`after` is the last position of the page before. Empty for a conversation not there."""
        ...


class Accounts(Protocol):
    async def create(self, email: str, password_hash: str) -> Account | None:
        """The transaction's own account; None when the address, normalised, has one already."""
        ...

    async def get(self) -> Account | None:
        """The transaction's own account, if it is a local one."""
        ...

    async def lock(self) -> Account | None:
        """The same; until the transaction ends nobody else changes it or opens a session of it."""
        ...

    async def set_password(self, password_hash: str) -> None: ...

    async def set_disabled(self, *, is_disabled: bool) -> None: ...

    async def delete(self) -> None:
        """With everything that is its user's, whichever issuer's user that is."""
        ...


class Sessions(Protocol):
    """
    Of a local account. Each is a family of refresh tokens, kept by their hashes.

    `open`, `rotate` and `close_all` want the account locked before.
    """

    async def open(self, session_id: UUID, token_hash: str, lifetime_seconds: int) -> None: ...

    async def rotate(
        self, used_hash: str, next_hash: str, *, lifetime_seconds: int, grace_seconds: int
    ) -> Rotation | None:
        """None for a token that is unknown or expired; nothing is changed then, nor by a reuse."""
        ...

    async def live(self, session_id: UUID) -> bool:
        """Whether it is open, and its account neither disabled nor gone."""
        ...

    async def close(self, token_hash: str) -> UUID | None:
        """The session that the token is of; None for an unknown one."""
        ...

    async def close_all(self) -> None: ...


class Keys(Protocol):
    async def create(self, key: NewKey) -> ApiKey: ...

    async def count(self) -> int: ...

    async def newest(self, limit: int, after: UUID | None) -> Sequence[ApiKey]:
        """The last made come first; `after` is the last one of the page before."""
        ...

    async def delete(self, key_id: UUID) -> None:
        """
        Raises:
            KeyNotFound: it is another user's, or nobody's.
        """
        ...

    async def live(self, key_hash: str) -> ApiKey | None:
        """The key with this hash; None if it has expired, or its account is disabled or gone."""
        ...

    async def touch(self, key_id: UUID) -> None:
        """It is used now."""
        ...


class Transaction(Protocol):
    """All or nothing, and only ever one user's rows."""

    @property
    def conversations(self) -> Conversations: ...

    @property
    def turns(self) -> Turns: ...

    @property
    def messages(self) -> Messages: ...

    @property
    def accounts(self) -> Accounts: ...

    @property
    def sessions(self) -> Sessions: ...

    @property
    def keys(self) -> Keys: ...


class Store(Protocol):
    """
    The only ways to what Parley keeps. `begin` leads to a user's data, `resolve` says who it is;
    nothing else here touches a user's data.
    """

    def begin(
        self, user_id: str, *, read_only: bool = False
    ) -> AbstractAsyncContextManager[Transaction]:
        """
        Commit on a clean exit, roll back on any exception. One that only reads sees one moment.

        Never held open while something else than the store is waited for.

        Raises:
            DatabaseUnavailable: no connection, or no answer in time. After the last statement
                this may mean that the commit did happen.
            Overloaded: the database is there, and has no room for this now.
        """
        ...

    async def resolve(self, credential: Credential) -> str | None:
        """
        The id of the user whose credential this is; None for an unknown or expired one.

        Whether it still counts is for `begin(user_id)` to see.
        """
        ...

    async def ping(self) -> None:
        """
        Raises:
            DatabaseUnavailable: no answer.
        """
        ...

    def pool(self) -> Pool | None:
        """Connections of this process; None where there is no pool."""
        ...

    async def revision(self) -> str | None:
        """The schema's revision, None where there is no schema yet."""
        ...

    async def faults(self) -> Sequence[str]:
        """
        What makes this store unfit for production, a line each: powers that would let this process
        past the policies between users, and commits that do not last.

        Raises:
            DatabaseUnavailable: no answer.
        """
        ...

    async def renew(self, worker_id: UUID) -> None:
        """Let the worker live for another LEASE_SECONDS."""
        ...

    async def forget(self, worker_id: UUID) -> None:
        """The worker has left; its turns, if any still run, are abandoned."""
        ...

    async def forget_dead(self) -> None:
        """Remove workers whose lease ran out more than DEAD_SECONDS ago."""
        ...

    async def close(self) -> None: ...


class BetterAuthSessions(Protocol):
    """Better Auth's table of sessions, which is its own: nothing here writes to it."""

    async def user_of(self, token: str) -> str | None:
        """
        Whose session it is; None when there is none, or it has ended by the database's clock.

        Raises:
            DatabaseUnavailable: no answer in time, or there is no such table to read.
            Overloaded: the database is there, and has no room for this now.
        """
        ...

    async def close(self) -> None: ...


class Limiter(Protocol):
    async def hit(self, quota: Quota, key: str) -> Standing:
        """
        Count one, if the quota admits it. What is refused does not count.

        Raises:
            Unavailable: the counts cannot be asked now.
        """
        ...


class Slots(Protocol):
    """How many turns and streams a user has open, over all processes. Any may raise Unavailable."""

    async def take(self, user_id: str, slot: UUID, limit: int) -> bool:
        """False where the user has `limit` of them. It is held for SLOT_SECONDS."""
        ...

    async def keep(self, held: Mapping[str, Collection[UUID]]) -> None:
        """Hold these for another SLOT_SECONDS, also those that were lost or never taken."""
        ...

    async def give_back(self, slots: Collection[tuple[str, UUID]]) -> None: ...


class Common(Protocol):
    """What all processes share, and may lose."""

    @property
    def limiter(self) -> Limiter: ...

    @property
    def slots(self) -> Slots: ...

    async def ping(self) -> None:
        """
        Raises:
            Unavailable: no answer.
        """
        ...

    async def close(self) -> None: ...
