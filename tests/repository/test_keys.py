from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from parley.core.errors import KeyNotFound
from parley.core.ids import new_id
from parley.crud.ports import Store
from parley.schemas.accounts import KeyCredential
from parley.schemas.keys import ApiKey, NewKey
from tests.factories import make_account


@pytest.fixture
async def ann(store: Store) -> str:
    user_id = str(new_id())
    async with store.begin(user_id) as tx:
        await tx.accounts.create("ann@example.com", "hash")
    return user_id


async def make_key(
    store: Store, user_id: str, key_hash: str, expires_at: datetime | None = None
) -> ApiKey:
    new = NewKey(new_id(), key_hash, "parley_key_12345", f"the key {key_hash}", expires_at)
    async with store.begin(user_id) as tx:
        return await tx.keys.create(new)


async def live(store: Store, user_id: str, key_hash: str) -> ApiKey | None:
    async with store.begin(user_id, read_only=True) as tx:
        return await tx.keys.live(key_hash)


async def delete(store: Store, user_id: str, key_id: UUID) -> None:
    async with store.begin(user_id) as tx:
        await tx.keys.delete(key_id)


class TestCreate:
    async def test_it_is_found_by_its_hash_and_is_its_users(
        self, store: Store, ann: str, bob: str
    ):
        key = await make_key(store, ann, "one")

        assert ann == await store.resolve(KeyCredential("one"))
        assert key == await live(store, ann, "one")
        assert None is await live(store, bob, "one")
        assert (None, "parley_key_12345") == (key.last_used_at, key.prefix)

    @pytest.mark.parametrize("unknown", ["", "%", "ONE", "one' OR ''='"])
    async def test_an_unknown_one_is_nobodys(self, store: Store, ann: str, unknown: str):
        await make_key(store, ann, "one")

        assert None is await store.resolve(KeyCredential(unknown))

    async def test_they_are_counted_for_each_user(self, store: Store, ann: str, bob: str):
        for key_hash in ("one", "two"):
            await make_key(store, ann, key_hash)
        await make_key(store, bob, "bob")

        async with store.begin(ann) as tx:
            assert 2 == await tx.keys.count()


class TestExpiry:
    async def test_one_that_has_run_out_is_nobodys(self, store: Store, ann: str):
        now = datetime.now(UTC)
        await make_key(store, ann, "past", now - timedelta(seconds=1))
        to_come = await make_key(store, ann, "to come", now + timedelta(hours=1))

        assert None is await store.resolve(KeyCredential("past"))
        assert None is await live(store, ann, "past")
        assert ann == await store.resolve(KeyCredential("to come"))
        assert to_come == await live(store, ann, "to come")


class TestLive:
    async def test_one_of_a_disabled_account_is_not(self, store: Store, ann: str, bob: str):
        await make_account(store, bob)
        key = await make_key(store, ann, "one")
        async with store.begin(ann) as tx:
            await tx.accounts.set_disabled(is_disabled=True)
        assert None is await live(store, ann, "one")

        async with store.begin(ann) as tx:
            await tx.accounts.set_disabled(is_disabled=False)
        assert key == await live(store, ann, "one")

    async def test_it_knows_when_it_was_used_last(self, store: Store, ann: str):
        key = await make_key(store, ann, "one")
        other = await make_key(store, ann, "other")
        async with store.begin(ann) as tx:
            await tx.keys.touch(key.id)

        used = await live(store, ann, "one")
        assert used is not None
        assert used.last_used_at is not None
        assert timedelta(minutes=1) > abs(datetime.now(UTC) - used.last_used_at)
        assert other == await live(store, ann, "other")


class TestNewest:
    async def test_the_last_made_come_first_page_by_page(self, store: Store, ann: str, bob: str):
        made = [await make_key(store, ann, str(n)) for n in range(3)]
        await make_key(store, bob, "bob")

        async with store.begin(ann, read_only=True) as tx:
            first = [*await tx.keys.newest(2, None)]
            second = [*await tx.keys.newest(2, first[-1].id)]
        assert made[::-1] == first + second


class TestDelete:
    async def test_it_is_nobodys_from_then_on(self, store: Store, ann: str):
        key, other = [await make_key(store, ann, key_hash) for key_hash in ("one", "other")]
        await delete(store, ann, key.id)

        assert None is await store.resolve(KeyCredential("one"))
        assert other == await live(store, ann, "other")
        with pytest.raises(KeyNotFound):
            await delete(store, ann, key.id)

    async def test_anothers_is_not_there(self, store: Store, ann: str, bob: str):
        key = await make_key(store, ann, "one")

        with pytest.raises(KeyNotFound):
            await delete(store, bob, key.id)
        assert key == await live(store, ann, "one")
