"""An account that changes while its password is being checked, or is not there any more."""

from collections.abc import Awaitable, Callable

import pytest

from parley.core.errors import AccountGone, InvalidCredentials, WrongPassword
from parley.core.security.cursors import Cursors
from parley.core.security.passwords import Passwords
from parley.core.security.tokens import LocalTokens
from parley.crud.memory.store import MemoryStore
from parley.crud.ports import Transaction
from parley.schemas.accounts import Login, PasswordChange
from parley.schemas.keys import KeyDraft
from parley.services.accounts import AccountService
from parley.services.keys import KeyService
from parley.services.liveness import LiveSessions
from parley.services.sessions import SessionService
from tests.conftest import SECRET
from tests.factories import new_eraser

ANN, EMAIL, PASSWORD = "ann", "ann@example.com", "correct horse battery staple"
CHANGE = PasswordChange(current=PASSWORD, new="another horse, another staple")

Change = Callable[[Transaction], Awaitable[None]]
CHANGES: dict[str, Change] = {
    "another password": lambda tx: tx.accounts.set_password("another hash"),
    "disabled": lambda tx: tx.accounts.set_disabled(is_disabled=True),
    "gone": lambda tx: tx.accounts.delete(),
}


class Interrupted(Passwords):
    """The password is right, and then the account is changed."""

    def __init__(self, store: MemoryStore, change: Change) -> None:
        super().__init__()
        self._store = store
        self._change = change

    async def matches(self, password: str, password_hash: str | None) -> bool:
        async with self._store.begin(ANN) as tx:
            await self._change(tx)
        return True


@pytest.fixture(params=CHANGES)
async def accounts(request: pytest.FixtureRequest) -> AccountService:
    store = MemoryStore()
    async with store.begin(ANN) as tx:
        await tx.accounts.create(EMAIL, "hash")
    live, tokens = LiveSessions(store), LocalTokens(SECRET, lifetime_seconds=300)
    sessions = SessionService(store, tokens, live, lifetime_seconds=3600, grace_seconds=10)
    passwords = Interrupted(store, CHANGES[request.param])
    return AccountService(
        store, sessions, live, passwords, new_eraser(), registration_is_open=True
    )


async def test_who_has_none_changes_no_password_and_makes_no_key():
    """As a token may ask that has outlived its account."""
    store = MemoryStore()
    live, tokens = LiveSessions(store), LocalTokens(SECRET, lifetime_seconds=300)
    sessions = SessionService(store, tokens, live, lifetime_seconds=3600, grace_seconds=10)
    accounts = AccountService(
        store, sessions, live, Passwords(), new_eraser(), registration_is_open=True
    )

    with pytest.raises(AccountGone):
        await accounts.change_password(ANN, CHANGE)
    with pytest.raises(AccountGone):
        await KeyService(store, Cursors(b"k" * 32)).create(ANN, KeyDraft(name="import"))


async def test_it_opens_no_session(accounts: AccountService):
    with pytest.raises(InvalidCredentials):
        await accounts.login(Login(email=EMAIL, password=PASSWORD))


async def test_it_gets_no_other_password(accounts: AccountService, request: pytest.FixtureRequest):
    is_gone = request.node.callspec.params["accounts"] == "gone"
    with pytest.raises(AccountGone if is_gone else WrongPassword):
        await accounts.change_password(ANN, CHANGE)
