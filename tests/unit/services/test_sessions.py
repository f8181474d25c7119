"""What was so when a refresh token was looked up, and is not any more when it is used."""

import pytest

from parley.core.errors import Unauthenticated
from parley.core.security.tokens import LocalTokens
from parley.crud.memory.store import MemoryStore
from parley.schemas.accounts import Account, Credential
from parley.services.liveness import LiveSessions
from parley.services.sessions import SessionService
from tests.conftest import SECRET

ANN = "ann"


class HastyStore(MemoryStore):
    """Each token was Ann's a moment ago."""

    async def resolve(self, credential: Credential) -> str | None:
        return ANN


@pytest.fixture
def store() -> HastyStore:
    return HastyStore()


@pytest.fixture
def sessions(store: HastyStore) -> SessionService:
    tokens = LocalTokens(SECRET, lifetime_seconds=300)
    live = LiveSessions(store)
    return SessionService(store, tokens, live, lifetime_seconds=3600, grace_seconds=10)


@pytest.fixture
async def account(store: HastyStore) -> Account:
    async with store.begin(ANN) as tx:
        made = await tx.accounts.create("ann@example.com", "hash")
    assert made is not None
    return made


async def admit(user_id: str) -> None:
    """Anybody, as often as they like."""


async def refuses(sessions: SessionService, refresh_token: str) -> None:
    with pytest.raises(Unauthenticated):
        await sessions.refresh(refresh_token, admit)


class TestRefresh:
    async def test_one_that_has_gone(self, sessions: SessionService, account: Account):
        await refuses(sessions, "gone")

    async def test_of_an_account_that_has_gone(self, sessions: SessionService):
        await refuses(sessions, "gone")

    async def test_of_an_account_that_was_disabled(
        self, store: HastyStore, sessions: SessionService, account: Account
    ):
        async with store.begin(ANN) as tx:
            session = await sessions.open(tx, account)
            await tx.accounts.set_disabled(is_disabled=True)

        await refuses(sessions, session.refresh_token)
