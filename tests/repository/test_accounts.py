import asyncio

import pytest

from parley.core.errors import AccountGone
from parley.core.ids import new_id
from parley.crud.ports import Store
from parley.schemas.accounts import Account, EmailCredential, KeyCredential, RefreshCredential
from parley.schemas.conversations import ConversationDraft
from parley.schemas.keys import NewKey
from tests.databases import DatabaseUrls, connected, until_one_waits
from tests.factories import accept, make_account, make_conversation, new_reply, new_turn, record
from tests.stores import patient_store


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


class TestChange:
    async def test_password_and_standing_are_the_accounts_own(self, store: Store):
        ann, bob = await create(store, "ann@example.com"), await create(store, "bob@example.com")
        assert ann is not None
        async with store.begin(ann.id) as tx:
            assert ann == await tx.accounts.lock()
            await tx.accounts.set_password("another hash")
            await tx.accounts.set_disabled(is_disabled=True)
            changed = await tx.accounts.get()

        assert changed is not None
        assert ("another hash", True) == (changed.password_hash, changed.disabled_at is not None)
        async with store.begin(bob.id, read_only=True) as tx:
            assert bob == await tx.accounts.get()

    async def test_the_moment_of_disabling_is_the_first(self, store: Store):
        ann = await create(store, "ann@example.com")
        moments = []
        for _ in range(2):
            async with store.begin(ann.id) as tx:
                await tx.accounts.set_disabled(is_disabled=True)
                moments.append((await tx.accounts.get()).disabled_at)

        assert moments[0] == moments[1]


class TestDelete:
    async def test_everything_of_the_user_goes_and_nothing_of_anybody_else(
        self, store: Store, alice: str, bob: str
    ):
        for user_id in (alice, bob):
            await make_account(store, user_id)
            conversation = await make_conversation(store, user_id)
            await record(store, user_id, conversation.id)
            await accept(store, user_id, new_turn(conversation.id))
            async with store.begin(user_id) as tx:
                await tx.keys.create(NewKey(new_id(), f"key of {user_id}", "p", "n", None))

        async with store.begin(alice) as tx:
            await tx.accounts.delete()

        for user_id, count in ((alice, 0), (bob, 1)):
            async with store.begin(user_id) as tx:
                conversations = await tx.conversations.newest(10, None)
                assert [count] * 3 == [
                    len(conversations),
                    await tx.keys.count(),
                    int(await tx.accounts.get() is not None),
                ]
            known = [
                await store.resolve(EmailCredential(f"{user_id}@example.com")),
                await store.resolve(RefreshCredential(f"hash of {user_id}")),
                await store.resolve(KeyCredential(f"key of {user_id}")),
            ]
            assert [user_id if count else None] * 3 == known

    async def test_nothing_begins_for_one_that_is_gone(self, store: Store):
        ann = await create(store, "ann@example.com")
        assert ann is not None
        async with store.begin(ann.id) as tx:
            await tx.accounts.delete()

        with pytest.raises(AccountGone):
            await make_conversation(store, ann.id)

    async def test_nothing_begins_while_it_is_being_deleted(self, postgres: DatabaseUrls):
        """Whoever looks before the deletion is committed must not write after it."""
        store = patient_store(postgres.api)
        ann = await create(store, "ann@example.com")
        assert ann is not None
        async with store.begin(ann.id) as tx:
            await tx.accounts.lock()
            await tx.accounts.delete()
            beginning = asyncio.create_task(make_conversation(store, ann.id))
            await until_one_waits(postgres)

        with pytest.raises(AccountGone):
            await beginning
        await store.close()

    async def test_what_was_begun_before_it_goes_too(self, postgres: DatabaseUrls):
        store = patient_store(postgres.api)
        ann = await create(store, "ann@example.com")
        assert ann is not None

        async def delete() -> None:
            async with store.begin(ann.id) as tx:
                await tx.accounts.delete()

        async with store.begin(ann.id) as tx:
            await tx.conversations.create(new_id(), ConversationDraft())
            deleting = asyncio.create_task(delete())
            await until_one_waits(postgres)
        await deleting

        async with store.begin(ann.id, read_only=True) as tx:
            assert [] == await tx.conversations.newest(10, None)
        await store.close()

    async def test_it_waits_for_a_turn_that_is_being_recorded(
        self, postgres: DatabaseUrls, alice: str
    ):
        """In the same order of locks: the other one is a deadlock."""
        store = patient_store(postgres.api)
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id))

        async def delete() -> None:
            async with store.begin(alice) as tx:
                await tx.accounts.delete()

        async with store.begin(alice) as tx:
            await tx.conversations.update(conversation.id, ConversationDraft(title="locked"))
            deleting = asyncio.create_task(delete())
            await until_one_waits(postgres)
            await tx.turns.record(turn, 0, new_reply(), None)
        await deleting

        async with store.begin(alice, read_only=True) as tx:
            assert [] == await tx.conversations.newest(10, None)
        await store.close()

    async def test_no_table_is_forgotten(self, postgres: DatabaseUrls):
        """By the catalogue, whatever tables there will be."""
        store = patient_store(postgres.api)
        await self.test_everything_of_the_user_goes_and_nothing_of_anybody_else(
            store, "alice", "bob"
        )
        await store.close()
        async with connected(postgres.owner) as owner:
            tables = await owner.fetch(
                "SELECT table_name AS name FROM information_schema.columns"
                " WHERE table_schema = 'public' AND column_name = 'user_id'"
            )
            owners = {
                row["user_id"]
                for table in tables
                for row in await owner.fetch(f"SELECT user_id FROM {table['name']}")  # noqa: S608
            }
        assert len(tables) >= 5
        assert {"bob"} == owners
