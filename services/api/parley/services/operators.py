"""What an operator does to somebody's account, from the command line."""

from parley.core import audit
from parley.core.audit import Event
from parley.core.errors import EmailTaken
from parley.core.ids import new_id
from parley.core.security.passwords import Passwords
from parley.crud.ports import Store
from parley.schemas.accounts import EmailCredential, Registration, User
from parley.services.files.erasing import Eraser
from parley.services.sessions import user_of


class AccountUnknown(Exception):
    """No account has this e-mail address."""


class OperatorService:
    """
    Every method but `create` raises AccountUnknown.

    What is taken away ends at once in the store, and within ten seconds in processes that serve.
    """

    def __init__(self, store: Store, passwords: Passwords, eraser: Eraser) -> None:
        self._store = store
        self._passwords = passwords
        self._eraser = eraser

    async def create(self, registration: Registration) -> User:
        """
        Raises:
            EmailTaken: the address, normalised, has an account.
        """
        password_hash = await self._passwords.hash(registration.password.get_secret_value())
        async with self._store.begin(str(new_id())) as tx:
            account = await tx.accounts.create(registration.email, password_hash)
        if account is None:
            raise EmailTaken
        audit.record(Event.REGISTERED, account.id)
        return user_of(account)

    async def disable(self, email: str) -> str:
        """Nobody may use the account, its sessions or its keys; nothing of it is lost."""
        user_id = await self.find(email)
        async with self._store.begin(user_id) as tx:
            await tx.accounts.lock()
            await tx.accounts.set_disabled(is_disabled=True)
            await tx.sessions.close_all()
        audit.record(Event.ACCOUNT_DISABLED, user_id)
        return user_id

    async def enable(self, email: str) -> str:
        user_id = await self.find(email)
        async with self._store.begin(user_id) as tx:
            await tx.accounts.set_disabled(is_disabled=False)
        audit.record(Event.ACCOUNT_ENABLED, user_id)
        return user_id

    async def reset_password(self, registration: Registration) -> str:
        """Give the account of this address this password, and end its sessions."""
        user_id = await self.find(registration.email)
        password_hash = await self._passwords.hash(registration.password.get_secret_value())
        async with self._store.begin(user_id) as tx:
            await tx.accounts.lock()
            await tx.accounts.set_password(password_hash)
            await tx.sessions.close_all()
        audit.record(Event.PASSWORD_CHANGED, user_id)
        return user_id

    async def delete(self, email: str) -> str:
        """With everything that is the user's."""
        user_id = await self.find(email)
        async with self._store.begin(user_id) as tx:
            files = await tx.accounts.delete()
        audit.record(Event.ACCOUNT_DELETED, user_id)
        await self._eraser.erase(files)
        return user_id

    async def find(self, email: str) -> str:
        """`email` is normalised."""
        user_id = await self._store.resolve(EmailCredential(email))
        if user_id is None:
            raise AccountUnknown(email)
        return user_id
