from parley.core import audit
from parley.core.audit import Event
from parley.core.errors import (
    AccountGone,
    EmailTaken,
    InvalidCredentials,
    RegistrationClosed,
    WrongPassword,
)
from parley.core.ids import new_id
from parley.core.security.passwords import Passwords
from parley.core.security.tokens import Principal
from parley.crud.ports import Store
from parley.schemas.accounts import (
    Account,
    EmailCredential,
    Login,
    Me,
    PasswordChange,
    Registration,
    Session,
)
from parley.services.files.erasing import Eraser
from parley.services.liveness import LiveSessions, require_live
from parley.services.sessions import SessionService


class AccountService:
    """Accounts that Parley keeps itself; only deleting also serves other issuers' users."""

    def __init__(
        self,
        store: Store,
        sessions: SessionService,
        live: LiveSessions,
        passwords: Passwords,
        eraser: Eraser,
        *,
        registration_is_open: bool,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._live = live
        self._passwords = passwords
        self._eraser = eraser
        self._registration_is_open = registration_is_open

    async def register(self, registration: Registration) -> Session:
        """
        Raises:
            RegistrationClosed: accounts are not made here.
            EmailTaken: the address, normalised, has an account.
        """
        if not self._registration_is_open:
            raise RegistrationClosed
        password_hash = await self._passwords.hash(registration.password.get_secret_value())
        async with self._store.begin(str(new_id())) as tx:
            account = await tx.accounts.create(registration.email, password_hash)
            if account is None:
                raise EmailTaken
            session = await self._sessions.open(tx, account)
        audit.record(Event.REGISTERED, account.id)
        return session

    async def login(self, login: Login) -> Session:
        """
        Raises:
            InvalidCredentials: unknown address, wrong password or a disabled account; each takes
                as long as the others.
        """
        # Nobody is looked up as somebody is: the time it takes tells nothing.
        user_id = await self._store.resolve(EmailCredential(login.email)) or str(new_id())
        async with self._store.begin(user_id, read_only=True) as tx:
            account = await tx.accounts.get()
        if not await self._knows(account, login.password.get_secret_value()):
            raise _refused(account)
        async with self._store.begin(user_id) as tx:
            # The password may have been changed since, and every session ended with it.
            if account is None or await tx.accounts.lock() != account:
                raise _refused(account)
            session = await self._sessions.open(tx, account)
        audit.record(Event.SIGNED_IN, user_id)
        return session

    async def change_password(self, user_id: str, change: PasswordChange) -> Session:
        """
        End every session, and open a new one for whoever has changed it.

        Raises:
            WrongPassword: `current` is not the account's.
            AccountGone: there is no account any more.
        """
        async with self._store.begin(user_id, read_only=True) as tx:
            before = await tx.accounts.get()
        if before is None:
            raise AccountGone
        if not await self._knows(before, change.current.get_secret_value()):
            audit.record(Event.PASSWORD_CHANGE_REFUSED, user_id)
            raise WrongPassword
        password_hash = await self._passwords.hash(change.new.get_secret_value())
        async with self._store.begin(user_id) as tx:
            account = await tx.accounts.lock()
            if account is None:
                raise AccountGone
            if account != before:
                raise WrongPassword
            await tx.accounts.set_password(password_hash)
            await tx.sessions.close_all()
            session = await self._sessions.open(tx, account)
        self._live.forget(user_id)
        audit.record(Event.PASSWORD_CHANGED, user_id)
        return session

    async def me(self, caller: Principal) -> Me:
        """
        Raises:
            AccountGone: the token outlived its account.
        """
        async with self._store.begin(caller.user_id, read_only=True) as tx:
            account = await tx.accounts.get()
        if account is None and caller.session_id is not None:
            raise AccountGone
        return Me(id=caller.user_id, email=None if account is None else account.email)

    async def delete(self, caller: Principal) -> None:
        """
        With everything that is the user's. There is no way back.

        Raises:
            AccountGone: it has been deleted.
            TokenRefused: the caller's session has ended, here or elsewhere.
        """
        user_id, session_id = caller.user_id, caller.session_id
        async with self._store.begin(user_id) as tx:
            if await tx.accounts.lock() is None and session_id is not None:
                raise AccountGone
            if session_id is not None:
                await require_live(tx, user_id, session_id)
            files = await tx.accounts.delete()
        self._live.forget(user_id)
        audit.record(Event.ACCOUNT_DELETED, user_id)
        await self._eraser.erase(files)

    async def _knows(self, account: Account | None, password: str) -> bool:
        password_hash = None if account is None else account.password_hash
        matches = await self._passwords.matches(password, password_hash)
        return matches and account is not None and account.disabled_at is None


def _refused(account: Account | None) -> InvalidCredentials:
    audit.record(Event.SIGN_IN_REFUSED, None if account is None else account.id)
    return InvalidCredentials()
