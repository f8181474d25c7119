from parley.core.errors import AccountGone, EmailTaken, InvalidCredentials
from parley.core.ids import new_id
from parley.core.security.passwords import Passwords
from parley.core.security.tokens import LocalTokens
from parley.crud.ports import Store
from parley.schemas.accounts import (
    Account,
    EmailCredential,
    Login,
    Me,
    Registration,
    Session,
    User,
)


class AccountService:
    def __init__(self, store: Store, tokens: LocalTokens, passwords: Passwords) -> None:
        self._store = store
        self._tokens = tokens
        self._passwords = passwords

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
        return _user(account)

    async def register(self, registration: Registration) -> Session:
        """
        Raises:
            EmailTaken: the address, normalised, has an account.
        """
        return self._open(await self.create(registration))

    async def login(self, login: Login) -> Session:
        """
        Raises:
            InvalidCredentials: unknown address or wrong password; both take as long.
        """
        # Nobody is looked up as somebody is: the time it takes tells nothing.
        user_id = await self._store.resolve(EmailCredential(login.email)) or str(new_id())
        async with self._store.begin(user_id, read_only=True) as tx:
            account = await tx.accounts.get()
        matches = await self._passwords.matches(
            login.password.get_secret_value(), None if account is None else account.password_hash
        )
        if account is None or not matches:
            raise InvalidCredentials
        return self._open(_user(account))

    async def me(self, user_id: str) -> Me:
        """
        Raises:
            AccountGone: the token outlived its account.
        """
        async with self._store.begin(user_id, read_only=True) as tx:
            account = await tx.accounts.get()
        if account is None:
            raise AccountGone
        return Me(id=account.id, email=account.email)

    def _open(self, user: User) -> Session:
        return Session(
            user=user,
            access_token=self._tokens.issue(user.id),
            expires_in=self._tokens.lifetime_seconds,
        )


def _user(account: Account) -> User:
    return User(id=account.id, email=account.email, created_at=account.created_at)
