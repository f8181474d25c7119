"""Sessions of local accounts: an access token for minutes, and a refresh token for the next."""

from collections.abc import Awaitable, Callable

from parley.core import audit
from parley.core.audit import Event
from parley.core.errors import RefreshRefused
from parley.core.ids import new_id
from parley.core.security.opaque import digest, new_refresh_token
from parley.core.security.tokens import LocalTokens
from parley.crud.ports import Store, Transaction
from parley.schemas.accounts import Account, RefreshCredential, Session, User
from parley.services.liveness import LiveSessions


def user_of(account: Account) -> User:
    return User(id=account.id, email=account.email, created_at=account.created_at)


class SessionService:
    def __init__(
        self,
        store: Store,
        tokens: LocalTokens,
        live: LiveSessions,
        *,
        lifetime_seconds: int,
        grace_seconds: int,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._live = live
        self._lifetime_seconds = lifetime_seconds
        self._grace_seconds = grace_seconds

    async def open(self, tx: Transaction, account: Account) -> Session:
        """In the transaction of an account that was made there, or locked."""
        session_id, refresh_token = new_id(), new_refresh_token()
        await tx.sessions.open(session_id, digest(refresh_token), self._lifetime_seconds)
        return self._session(account, self._tokens.issue(account.id, session_id), refresh_token)

    async def refresh(
        self, refresh_token: str, admit: Callable[[str], Awaitable[None]]
    ) -> Session:
        """
        The next two tokens of a session. `admit` is asked whether its user may.

        One that was used before is good for the grace, as two tabs may come with it at once; after
        that somebody has kept a copy, and the session ends for everybody (RFC 9700, 4.14.2).

        Raises:
            RefreshRefused: unknown, expired, revoked or used long before, or the account may not
                be used.
        """
        used_hash, next_token = digest(refresh_token), new_refresh_token()
        user_id = await self._store.resolve(RefreshCredential(used_hash))
        if user_id is None:
            raise _refused(None)
        # A copy that comes back ends the session, however much its other holder has used up.
        if await self._is_good(user_id, used_hash):
            await admit(user_id)
        async with self._store.begin(user_id) as tx:
            account = await tx.accounts.lock()
            if account is None or account.disabled_at:
                raise _refused(user_id)
            rotation = await tx.sessions.rotate(
                used_hash,
                digest(next_token),
                lifetime_seconds=self._lifetime_seconds,
                grace_seconds=self._grace_seconds,
            )
            if rotation is not None and rotation.is_reuse:
                await tx.sessions.close(used_hash)
        if rotation is None:
            raise _refused(user_id)
        if rotation.is_reuse:
            self._live.forget(user_id)
            audit.record(Event.REFRESH_REUSED, user_id, session_id=rotation.session_id)
            raise RefreshRefused
        access_token = self._tokens.issue(account.id, rotation.session_id)
        return self._session(account, access_token, next_token)

    async def _is_good(self, user_id: str, token_hash: str) -> bool:
        async with self._store.begin(user_id, read_only=True) as tx:
            use = await tx.sessions.use_of(token_hash, grace_seconds=self._grace_seconds)
        return use is not None and not use.is_reuse

    async def close(self, refresh_token: str) -> None:
        """End the session that the token is of; nothing happens where there is none."""
        used_hash = digest(refresh_token)
        user_id = await self._store.resolve(RefreshCredential(used_hash))
        if user_id is None:
            return
        async with self._store.begin(user_id) as tx:
            await tx.accounts.lock()
            session_id = await tx.sessions.close(used_hash)
        self._live.forget(user_id)
        if session_id is not None:
            audit.record(Event.SIGNED_OUT, user_id, session_id=session_id)

    def _session(self, account: Account, access_token: str, refresh_token: str) -> Session:
        return Session(
            user=user_of(account),
            access_token=access_token,
            expires_in=self._tokens.lifetime_seconds,
            refresh_token=refresh_token,
        )


def _refused(user_id: str | None) -> RefreshRefused:
    audit.record(Event.REFRESH_REFUSED, user_id)
    return RefreshRefused()
