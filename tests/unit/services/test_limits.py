import pytest

from parley.core.errors import RateLimited, Unavailable
from parley.crud.memory.limits import MemoryLimiter
from parley.schemas.limits import Quota, Standing
from parley.services.limits import Crowd, LimitService
from parley.services.shared import Shared

EMAIL = "ann@example.com"


class Keys(MemoryLimiter):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []

    async def hit(self, quota: Quota, key: str) -> Standing:
        self.asked.append((quota.name, key))
        return await super().hit(quota, key)


class Away:
    """Shared counts, until they are away."""

    def __init__(self, counts: MemoryLimiter) -> None:
        self._counts = counts
        self.is_away = False

    @property
    def limiter(self) -> MemoryLimiter:
        if self.is_away:
            raise Unavailable
        return self._counts

    async def ping(self) -> None:
        raise Unavailable

    async def close(self) -> None:
        pass


def limited(counts: MemoryLimiter, key: bytes = b"key") -> LimitService:
    address = Quota("address", 30, 60)
    return LimitService(
        counts, None, chat=Quota("chat", 60, 60), address=address, keyed_at_once=5, key=key
    )


class TestShared:
    async def test_who_makes_redis_late_begins_where_this_process_stands(self):
        """What Redis has admitted and then cannot say any more is not admitted once again."""
        common = Away(MemoryLimiter())
        address = Quota("address", 3, 60)
        shared = Shared(common)
        limits = LimitService(
            MemoryLimiter(), shared, chat=address, address=address, keyed_at_once=5, key=b"key"
        )
        admitted = [(await limits.address("203.0.113.7")).is_admitted for _ in range(2)]
        common.is_away = True
        admitted += [(await limits.address("203.0.113.7")).is_admitted for _ in range(2)]

        await shared.close()
        assert [True, True, True, False] == admitted


class TestCrowd:
    def test_it_remembers_those_alone_that_are_inside(self):
        crowd = Crowd("address-at-once", 2)
        leaving = [crowd.enter(key) for key in ("ann", "ann", "bob")]
        assert {"ann": 2, "bob": 1} == crowd.inside
        with pytest.raises(RateLimited):
            crowd.enter("ann")

        for leave in leaving:
            leave()
        assert {} == crowd.inside


class TestKeys:
    async def test_no_address_and_no_email_is_in_a_key(self):
        counts = Keys()
        limits = limited(counts)
        await limits.address("203.0.113.7")
        await limits.account("203.0.113.7", EMAIL)

        for _, key in counts.asked:
            assert "203.0.113.7" not in key
            assert "ann" not in key

    async def test_who_does_not_know_the_secret_cannot_guess_whose_key_it_is(self):
        counts = Keys()
        for secret in (b"one", b"another"):
            await limited(counts, secret).account("203.0.113.7", EMAIL)

        assert 2 == len(set(counts.asked))

    @pytest.mark.parametrize(
        ("address", "email"),
        [("203.0.113.8", EMAIL), ("203.0.113.7", "bob@example.com"), (None, EMAIL)],
    )
    async def test_an_account_counts_by_address_and_email(self, address: str | None, email: str):
        counts = Keys()
        limits = limited(counts)
        await limits.account("203.0.113.7", EMAIL)
        await limits.account("203.0.113.7", EMAIL)
        await limits.account(address, email)

        first, again, other = counts.asked
        assert first == again
        assert first != other

    async def test_a_third_of_what_an_address_may_try_is_for_one_account(self):
        standing = await limited(MemoryLimiter()).account(None, EMAIL)

        assert Quota("account", 10, 60) == standing.quota
