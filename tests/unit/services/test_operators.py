import pytest
from obstore.store import MemoryStore as MemoryObjects
from pydantic import SecretStr

from parley.core.errors import EmailTaken
from parley.core.ids import new_id
from parley.core.security.passwords import Passwords
from parley.crud.memory.store import MemoryStore
from parley.crud.objects.blobs import ObjectBlobs
from parley.schemas.accounts import Account, Registration
from parley.services.files.erasing import Eraser
from parley.services.operators import AccountUnknown, OperatorService
from tests.factories import make_file
from tests.stores import kept

EMAIL = "ann@example.com"
REGISTRATION = Registration(email=EMAIL, password=SecretStr("correct horse battery staple"))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def blobs() -> ObjectBlobs:
    return ObjectBlobs(MemoryObjects)


@pytest.fixture
def operator(store: MemoryStore, blobs: ObjectBlobs) -> OperatorService:
    return OperatorService(store, Passwords(), Eraser(blobs))


@pytest.fixture
async def ann(operator: OperatorService) -> str:
    return (await operator.create(REGISTRATION)).id


async def account_of(store: MemoryStore, user_id: str) -> Account | None:
    async with store.begin(user_id) as tx:
        return await tx.accounts.get()


class TestOperator:
    async def test_an_address_has_one_account(self, operator: OperatorService, ann: str):
        with pytest.raises(EmailTaken):
            await operator.create(REGISTRATION)

    @pytest.mark.parametrize("act", ["disable", "enable", "delete", "find"])
    async def test_without_an_account_nothing_is_done(self, operator: OperatorService, act: str):
        with pytest.raises(AccountUnknown):
            await getattr(operator, act)(EMAIL)

    async def test_without_one_no_password_is_reset(self, operator: OperatorService):
        with pytest.raises(AccountUnknown):
            await operator.reset_password(REGISTRATION)

    @pytest.mark.parametrize(
        ("act", "given"), [("disable", EMAIL), ("reset_password", REGISTRATION)]
    )
    async def test_every_session_ends(
        self, store: MemoryStore, operator: OperatorService, ann: str, act: str, given: object
    ):
        session_id = new_id()
        async with store.begin(ann) as tx:
            await tx.sessions.open(session_id, "hash", 3600)
        await getattr(operator, act)(given)
        await operator.enable(EMAIL)

        async with store.begin(ann) as tx:
            assert not await tx.sessions.live(session_id)

    async def test_it_is_disabled_until_it_is_enabled(
        self, store: MemoryStore, operator: OperatorService, ann: str
    ):
        await operator.disable(EMAIL)
        disabled = await account_of(store, ann)
        await operator.enable(EMAIL)
        enabled = await account_of(store, ann)

        assert (True, None) == (disabled.disabled_at is not None, enabled.disabled_at)

    async def test_the_password_is_another(
        self, store: MemoryStore, operator: OperatorService, ann: str
    ):
        password = SecretStr("another horse, another staple")
        await operator.reset_password(Registration(email=EMAIL, password=password))
        account = await account_of(store, ann)

        matches = Passwords().matches
        assert await matches(password.get_secret_value(), account.password_hash)
        assert not await matches("correct horse battery staple", account.password_hash)

    async def test_it_is_deleted(self, store: MemoryStore, operator: OperatorService, ann: str):
        await operator.delete(EMAIL)

        assert None is await account_of(store, ann)

    async def test_the_bytes_of_its_files_go_with_it(
        self, store: MemoryStore, operator: OperatorService, blobs: ObjectBlobs, ann: str
    ):
        hers, other = (await make_file(store, ann)).id, new_id()
        for file_id in (hers, other):
            async with blobs.write(file_id) as writer:
                await writer.write(b"hello")

        await operator.delete(EMAIL)

        assert {other} == await kept(blobs)
