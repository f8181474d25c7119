import asyncio

from parley.core.ids import new_id
from parley.crud.ports import Store
from parley.schemas.accounts import Account, EmailCredential


async def create(store: Store, email: str) -> Account | None:
    async with store.begin(str(new_id())) as tx:
        return await tx.accounts.create(email, "hash")


class TestCreate:
    async def test_an_account_is_found_by_its_address_and_read_by_its_owner(self, store: Store):
        account = await create(store, "ann@example.com")

        found = await store.resolve(EmailCredential("ann@example.com"))
        assert account is not None
        assert account.id == found
        async with store.begin(account.id, read_only=True) as tx:
            assert account == await tx.accounts.get()

    async def test_an_address_has_one_account(self, store: Store):
        first = await create(store, "ann@example.com")

        assert None is await create(store, "ann@example.com")
        assert None is not first
        assert first.id == await store.resolve(EmailCredential("ann@example.com"))

    async def test_of_many_at_once_one_gets_the_address(self, store: Store):
        accounts = await asyncio.gather(*(create(store, "ann@example.com") for _ in range(10)))

        assert 1 == sum(account is not None for account in accounts)


class TestResolve:
    async def test_an_unknown_address_is_nobodys(self, store: Store):
        await create(store, "ann@example.com")

        for address in ("bob@example.com", "", "%", "ann@example.com' OR ''='"):
            assert None is await store.resolve(EmailCredential(address))


class TestGet:
    async def test_an_account_is_its_owners_alone(self, store: Store, bob: str):
        await create(store, "ann@example.com")

        async with store.begin(bob, read_only=True) as tx:
            assert None is await tx.accounts.get()
