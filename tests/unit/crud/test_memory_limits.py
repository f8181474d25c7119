from hypothesis import given
from hypothesis import strategies as some

from parley.crud.memory.limits import MemoryLimiter
from parley.schemas.limits import Quota

QUOTA = Quota("chat", 3, 60)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limiter(keys_max: int = 100) -> tuple[MemoryLimiter, Clock]:
    clock = Clock()
    return MemoryLimiter(keys_max=keys_max, clock=clock), clock


class TestWindows:
    async def test_after_two_windows_nothing_is_left_of_it(self):
        counts, clock = limiter()
        for _ in range(4):
            await counts.hit(QUOTA, "ann")

        clock.now += 120

        assert 2 == (await counts.hit(QUOTA, "ann")).remaining

    async def test_a_full_window_does_not_open_at_once_when_it_ends(self):
        """A fixed window would let six through in two seconds."""
        counts, clock = limiter()
        clock.now += 59
        outcomes = [(await counts.hit(QUOTA, "ann")).is_admitted for _ in range(3)]

        clock.now += 61
        outcomes += [(await counts.hit(QUOTA, "ann")).is_admitted for _ in range(3)]

        assert [True, True, True, True, False, False] == outcomes

    @given(
        amount=some.integers(1, 100),
        pauses=some.lists(some.floats(0, 40), min_size=1, max_size=60),
    )
    async def test_who_waits_as_long_as_told_is_admitted(self, amount: int, pauses: list[float]):
        counts, clock = limiter()
        quota = Quota("chat", amount, 60)
        standing = await counts.hit(quota, "ann")
        for pause in pauses:
            clock.now += pause
            while standing.is_admitted:
                standing = await counts.hit(quota, "ann")

            # An answer takes its time to arrive, if never so little.
            clock.now += standing.reset_seconds + 0.001
            standing = await counts.hit(quota, "ann")

            assert standing.is_admitted


class TestBound:
    async def test_it_keeps_so_many_keys_and_no_more(self):
        counts, _ = limiter(keys_max=10)

        for number in range(1000):
            await counts.hit(QUOTA, f"user-{number}")

        assert 10 == len(counts._counts)  # noqa: SLF001 - its size is what it promises

    async def test_who_is_refused_all_the_time_is_not_forgotten(self):
        counts, _ = limiter(keys_max=10)
        outcomes = []
        for number in range(100):
            await counts.hit(QUOTA, f"user-{number}")
            outcomes.append((await counts.hit(QUOTA, "guesser")).is_admitted)

        assert [True] * 3 + [False] * 97 == outcomes
