import asyncio
from itertools import count
from uuid import UUID

import pytest

from parley.core.ids import new_id
from parley.core.security.opaque import digest
from parley.core.security.tokens import LocalTokens
from parley.crud.ports import Store
from parley.schemas.accounts import RefreshCredential, Rotation
from parley.services.liveness import LiveSessions
from parley.services.sessions import SessionService
from tests.databases import DatabaseUrls, until_one_waits
from tests.factories import make_account
from tests.stores import patient_store

HOUR = 3600


@pytest.fixture
async def ann(store: Store) -> str:
    user_id = str(new_id())
    async with store.begin(user_id) as tx:
        await tx.accounts.create("ann@example.com", "hash")
    return user_id


async def open_session(store: Store, user_id: str, token_hash: str, seconds: int = HOUR) -> UUID:
    session_id = new_id()
    async with store.begin(user_id) as tx:
        await tx.sessions.open(session_id, token_hash, seconds)
    return session_id


async def rotate(
    store: Store, user_id: str, used: str, following: str, *, grace_seconds: int = HOUR
) -> Rotation | None:
    async with store.begin(user_id) as tx:
        await tx.accounts.lock()
        return await tx.sessions.rotate(
            used, following, lifetime_seconds=HOUR, grace_seconds=grace_seconds
        )


async def is_live(store: Store, user_id: str, session_id: UUID) -> bool:
    async with store.begin(user_id, read_only=True) as tx:
        return await tx.sessions.live(session_id)


class TestOpen:
    async def test_its_token_is_found_by_its_hash(self, store: Store, ann: str):
        session_id = await open_session(store, ann, "one")

        assert ann == await store.resolve(RefreshCredential("one"))
        assert await is_live(store, ann, session_id)

    async def test_an_expired_one_is_nobodys_and_goes_with_the_next(self, store: Store, ann: str):
        expired = await open_session(store, ann, "one", seconds=0)
        assert None is await store.resolve(RefreshCredential("one"))
        assert not await is_live(store, ann, expired)

        await open_session(store, ann, "two")
        async with store.begin(ann) as tx:
            assert None is await tx.sessions.close("one")

    async def test_an_expired_one_goes_with_the_next_of_another_too(self, store: Store, ann: str):
        """Who only ever refreshes would keep them all."""
        await open_session(store, ann, "two")
        await open_session(store, ann, "one", seconds=0)
        await rotate(store, ann, "two", "three")

        async with store.begin(ann) as tx:
            assert None is await tx.sessions.close("one")

    @pytest.mark.parametrize("unknown", ["", "%", "ONE", "one' OR ''='"])
    async def test_an_unknown_token_is_nobodys(self, store: Store, ann: str, unknown: str):
        await open_session(store, ann, "one")

        assert None is await store.resolve(RefreshCredential(unknown))


class TestLogout:
    async def test_a_refresh_at_the_same_moment_does_not_outlive_it(self, postgres: DatabaseUrls):
        """The token that it makes is none that logging out can see, until it is there."""
        store = patient_store(postgres.api)
        sessions = SessionService(
            store, LocalTokens("x" * 32, lifetime_seconds=HOUR), LiveSessions(store),
            lifetime_seconds=HOUR, grace_seconds=HOUR,
        )  # fmt: skip
        user_id = str(new_id())
        async with store.begin(user_id) as tx:
            account = await tx.accounts.create("ann@example.com", "hash")
            token = (await sessions.open(tx, account)).refresh_token

        async with store.begin(user_id) as tx:
            await tx.accounts.lock()
            await tx.sessions.rotate(
                digest(token), "next", lifetime_seconds=HOUR, grace_seconds=HOUR
            )
            closing = asyncio.create_task(sessions.close(token))
            await until_one_waits(postgres)
        await closing

        assert None is await store.resolve(RefreshCredential("next"))
        await store.close()


class TestRotate:
    async def test_the_next_token_is_of_the_same_session(self, store: Store, ann: str):
        session_id = await open_session(store, ann, "one")

        assert Rotation(session_id, is_reuse=False) == await rotate(store, ann, "one", "two")
        assert Rotation(session_id, is_reuse=False) == await rotate(store, ann, "two", "three")
        assert ann == await store.resolve(RefreshCredential("three"))

    async def test_the_first_use_is_none_even_without_a_grace(self, store: Store, ann: str):
        session_id = await open_session(store, ann, "one")
        first = await rotate(store, ann, "one", "two", grace_seconds=0)

        assert Rotation(session_id, is_reuse=False) == first

    async def test_within_the_grace_there_is_another_one(self, store: Store, ann: str):
        await open_session(store, ann, "one")
        for following in ("two", "three"):
            rotation = await rotate(store, ann, "one", following)
            assert rotation is not None
            assert not rotation.is_reuse
            assert ann == await store.resolve(RefreshCredential(following))

    async def test_after_it_nothing_follows(self, store: Store, ann: str):
        session_id = await open_session(store, ann, "one")
        await rotate(store, ann, "one", "two")
        again = await rotate(store, ann, "one", "three", grace_seconds=-1)

        assert Rotation(session_id, is_reuse=True) == again
        assert None is await store.resolve(RefreshCredential("three"))

    async def test_the_grace_is_counted_from_the_first_use(self, store: Store, ann: str):
        """Else whoever keeps coming back within it would keep an old token for ever."""
        await open_session(store, ann, "one")
        async with asyncio.timeout(20):
            for number in count():
                rotation = await rotate(store, ann, "one", f"next {number}", grace_seconds=1)
                if rotation.is_reuse:
                    break

        assert number > 0

    async def test_another_sessions_token_is_not_used_with_it(self, store: Store, ann: str):
        await open_session(store, ann, "one")
        other = await open_session(store, ann, "other")
        await rotate(store, ann, "one", "two")

        first = await rotate(store, ann, "other", "next", grace_seconds=-1)
        assert Rotation(other, is_reuse=False) == first

    async def test_an_unknown_or_an_expired_one_is_none(self, store: Store, ann: str, bob: str):
        await open_session(store, ann, "two")
        await open_session(store, ann, "one", seconds=0)

        assert None is await rotate(store, ann, "one", "x")
        assert None is await rotate(store, ann, "unknown", "x")
        assert None is await rotate(store, bob, "two", "x")

    async def test_of_many_at_once_each_has_a_next_one_within_the_grace(
        self, store: Store, ann: str
    ):
        await open_session(store, ann, "one")
        rotations = await asyncio.gather(
            *(rotate(store, ann, "one", f"next {n}") for n in range(5))
        )

        assert [False] * 5 == [rotation and rotation.is_reuse for rotation in rotations]


class TestClose:
    async def test_every_token_of_the_session_ends_and_no_other_session(
        self, store: Store, ann: str
    ):
        closed = await open_session(store, ann, "one")
        other = await open_session(store, ann, "another")
        await rotate(store, ann, "one", "two")

        async with store.begin(ann) as tx:
            assert closed == await tx.sessions.close("one")
            assert None is await tx.sessions.close("one")

        assert None is await store.resolve(RefreshCredential("two"))
        assert (False, True) == (
            await is_live(store, ann, closed),
            await is_live(store, ann, other),
        )

    async def test_all_of_a_user_end_and_nobody_elses(self, store: Store, ann: str, bob: str):
        sessions = [await open_session(store, ann, str(n)) for n in range(2)]
        async with store.begin(bob) as tx:
            await tx.accounts.create("bob@example.com", "hash")
        bobs = await open_session(store, bob, "bob")

        async with store.begin(ann) as tx:
            await tx.sessions.close_all()

        assert [False, False] == [await is_live(store, ann, session) for session in sessions]
        assert await is_live(store, bob, bobs)

    async def test_anothers_of_the_same_id_goes_on(self, store: Store, ann: str, bob: str):
        """No two have the same; but it is not their ids that keep users apart."""
        session_id = await open_session(store, ann, "one")
        async with store.begin(bob) as tx:
            await tx.sessions.open(session_id, "bob", HOUR)
        async with store.begin(ann) as tx:
            await tx.sessions.close("one")

        assert bob == await store.resolve(RefreshCredential("bob"))

    async def test_what_follows_at_the_same_moment_ends_too(self, store: Store, ann: str):
        """A refresh that overtakes a change of the password must not survive it."""
        await open_session(store, ann, "0")

        async def close_all() -> None:
            async with store.begin(ann) as tx:
                await tx.accounts.lock()
                await tx.sessions.close_all()

        await asyncio.gather(
            *(rotate(store, ann, "0", f"next {n}") for n in range(8)), close_all()
        )

        followers = [await store.resolve(RefreshCredential(f"next {n}")) for n in range(8)]
        assert [None] * 8 == followers


class TestLive:
    async def test_a_disabled_account_has_none(self, store: Store, ann: str, bob: str):
        await make_account(store, bob)
        session_id = await open_session(store, ann, "one")
        for is_disabled in (True, False):
            async with store.begin(ann) as tx:
                await tx.accounts.set_disabled(is_disabled=is_disabled)

            assert (not is_disabled) == await is_live(store, ann, session_id)

    async def test_one_without_an_account_is_none(self, store: Store, bob: str):
        session_id = await open_session(store, bob, "one")

        assert not await is_live(store, bob, session_id)

    async def test_it_is_its_users_alone(self, store: Store, ann: str, bob: str):
        session_id = await open_session(store, ann, "one")
        async with store.begin(bob) as tx:
            await tx.accounts.create("bob@example.com", "hash")

        assert not await is_live(store, bob, session_id)
