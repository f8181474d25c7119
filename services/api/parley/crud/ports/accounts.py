"""Doors to accounts, and to what speaks for them."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from parley.schemas.accounts import Account, Rotation
from parley.schemas.keys import ApiKey, NewKey


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

    async def delete(self) -> Sequence[UUID]:
        """
        With everything that is its user's, whichever issuer's user that is.

        Returns the files whose bytes are still there.
        """
        ...


class Sessions(Protocol):
    """
    Of a local account. Each is a family of refresh tokens, kept by their hashes.

    `open`, `rotate` and `close_all` want the account locked before.
    """

    async def open(self, session_id: UUID, token_hash: str, lifetime_seconds: int) -> None: ...

    async def use_of(self, token_hash: str, *, grace_seconds: int) -> Rotation | None:
        """What `rotate` would say of it now; nothing is changed."""
        ...

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
