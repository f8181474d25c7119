"""The doors to the database."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from parley.crud.ports.accounts import Accounts, Keys, Sessions
from parley.crud.ports.conversations import Conversations, Messages, Turns
from parley.crud.ports.files import Files
from parley.schemas.accounts import Credential
from parley.schemas.health import Pool

SCHEMA_REVISION = "0006"
"""The migration that this code was written for: the newest of `migrations/versions`."""
LEASE_SECONDS = 10
"""How long a process may be silent before its turns count as lost; by the store's clock."""
DEAD_SECONDS = 3600
"""How long after its lease a silent process is remembered."""
LOST_SECONDS = 600
"""How long after its lease a silent process is news."""


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

    @property
    def files(self) -> Files: ...


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
            DatabaseUnavailable: no connection, or no answer in time.
            Overloaded: the database is there, and has no room for this now. After the last
                statement either may mean that the commit did happen.
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

    async def clock(self) -> datetime:
        """What time it is by the store's clock, which leases go by."""
        ...

    async def faults(self) -> Sequence[str]:
        """
        What makes this store unfit for production, a line each: powers that would let this process
        past the policies between users, and commits that do not last.

        Raises:
            DatabaseUnavailable: no answer.
        """
        ...

    async def index_faults(self) -> Sequence[str]:
        """
        Indexes that are kept and not used, a line each, with what to do.

        Raises:
            DatabaseUnavailable: no answer.
        """
        ...

    async def renew(self, worker_id: UUID) -> None:
        """Let the worker live for another LEASE_SECONDS."""
        ...

    async def cancels(self, worker_id: UUID) -> int:
        """How often a turn of this worker was asked to end, or deleted; 0 where there is no worker."""
        ...

    async def forget(self, worker_id: UUID) -> None:
        """The worker has left; its turns, if any still run, are abandoned."""
        ...

    async def lost(self) -> int:
        """How many workers' leases ran out in the last LOST_SECONDS, and were not given back."""
        ...

    async def forget_dead(self) -> None:
        """Remove workers whose lease ran out more than DEAD_SECONDS ago."""
        ...

    async def close(self) -> None: ...
