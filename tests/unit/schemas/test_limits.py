import pytest

from parley.schemas.limits import Quota, Window

QUOTA = Quota("chat", 10, 60)


class TestQuota:
    @pytest.mark.parametrize(
        ("rate", "quota"),
        [
            ("60/minute", Quota("chat", 60, 60)),
            ("1/second", Quota("chat", 1, 1)),
            ("999999/hour", Quota("chat", 999_999, 3600)),
            ("5/day", Quota("chat", 5, 86_400)),
        ],
    )
    def test_a_rate_is_a_number_in_a_time(self, rate: str, quota: Quota):
        assert quota == Quota.of("chat", rate)

    def test_a_third_of_it_is_never_nothing(self):
        assert [10, 3, 1, 1] == [
            Quota("address", amount, 60).third("account").amount for amount in (30, 11, 3, 1)
        ]


class TestWindow:
    def test_of_the_window_before_as_much_counts_as_still_overlaps(self):
        assert [10, 7, 5, 2, 0] == [
            Window(10, seconds, 0, seconds).used(QUOTA) for seconds in (60, 45, 30, 15, 0)
        ]

    @pytest.mark.parametrize(
        ("window", "remaining", "reset_seconds"),
        [
            pytest.param(Window(0, 60, 1, 60), 9, 60, id="the first one"),
            pytest.param(Window(0, 12.3, 10, 12.3), 0, 13, id="full in this window"),
            pytest.param(Window(10, 59.9, 1, 59.9), 0, 6, id="full of the window before"),
            pytest.param(Window(10, 31, 5, 31), 0, 1, id="a part of it goes soon"),
            pytest.param(Window(10, 5.9, 10, 5.9), 0, 6, id="nothing of it is left"),
        ],
    )
    def test_it_says_what_is_left_and_when_there_is_more(
        self, window: Window, remaining: int, reset_seconds: int
    ):
        standing = window.standing(QUOTA, is_admitted=False)

        assert (remaining, reset_seconds) == (standing.remaining, standing.reset_seconds)
