import inspect
import re
from collections import defaultdict

import pytest

from parley.core import errors
from parley.core.errors import (
    AppError,
    InternalError,
    RateLimited,
    TurnNotFound,
    Unavailable,
    recalled,
)
from parley.core.ids import new_id

LINE = re.compile(
    r"^(?P<branches>[│├└─ ]*)(?P<name>[A-Z]\w+)"
    r"(?: +(?P<status>\d{3}))?(?:, with Retry-After)?(?: +(?P<code>[a-z-]+))?$"
)


def heirs(of: type[AppError]) -> list[type[AppError]]:
    """Parley's own, whatever else a test may have made."""
    own = [heir for heir in of.__subclasses__() if heir.__module__.startswith(errors.__name__)]
    return own + [further for heir in own for further in heirs(heir)]


EVERY_ERROR = [AppError, *heirs(AppError)]


def drawn() -> dict[str, tuple[str | None, str | None, str | None]]:
    """Name: the name above it, status, code, as the module's docstring draws them."""
    assert errors.__doc__ is not None
    (tree,) = [part for part in errors.__doc__.split("\n\n") if part.startswith("AppError")]
    above: dict[int, str] = {}
    found = {}
    for line in tree.splitlines():
        match = LINE.match(line)
        assert match, line
        depth, name = len(match["branches"]) // 4, match["name"]
        assert name not in found
        above[depth] = name
        found[name] = (above.get(depth - 1), match["status"], match["code"])
    return found


class TestTree:
    def test_it_names_exactly_the_classes_there_are(self):
        assert {error.__name__ for error in EVERY_ERROR} == set(drawn())

    @pytest.mark.parametrize("error", EVERY_ERROR)
    def test_each_stands_under_its_parent(self, error: type[AppError]):
        parent = error.__base__.__name__ if error is not AppError else None

        assert parent == drawn()[error.__name__][0]

    @pytest.mark.parametrize("error", EVERY_ERROR)
    def test_each_stands_with_its_status(self, error: type[AppError]):
        parent, status, _ = drawn()[error.__name__]

        if status is None and parent not in (None, "AppError"):
            # A branch has the status of what it grows from.
            status = drawn()[parent][1]
        assert error is AppError or str(error.status) == status

    @pytest.mark.parametrize("error", EVERY_ERROR)
    def test_each_stands_with_its_code(self, error: type[AppError]):
        """One without is only there for others to grow from, or has its parent's."""
        code = drawn()[error.__name__][2]

        if code is None:
            assert heirs(error) or error.code == error.__base__.code
        else:
            assert error.code == code


class TestCodes:
    @pytest.mark.parametrize("error", EVERY_ERROR)
    def test_a_code_is_kebab_case(self, error: type[AppError]):
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", error.code)

    def test_no_two_branches_share_one(self):
        owners = defaultdict(set)
        for error in EVERY_ERROR:
            if "code" in vars(error):
                owners[error.code].add(error)

        assert {} == {code: of for code, of in owners.items() if len(of) > 1}

    @pytest.mark.parametrize("error", EVERY_ERROR)
    def test_a_title_begins_large_and_ends_open(self, error: type[AppError]):
        assert re.fullmatch(r"[A-Z].*[^.]", error.title)

    @pytest.mark.parametrize("error", EVERY_ERROR)
    def test_a_status_is_an_errors(self, error: type[AppError]):
        assert 400 <= error.status <= 599


class TestMembers:
    @pytest.mark.parametrize("error", EVERY_ERROR)
    def test_each_has_those_of_a_problem(self, error: type[AppError]):
        members = error().members

        assert {"type", "title", "status", "detail", "code"} == set(members)
        assert f"/problems/{error.code}" == members["type"]
        assert members["detail"]

    def test_the_detail_is_what_was_said(self):
        assert "This one." == AppError("This one.").members["detail"]

    def test_without_a_word_the_detail_is_the_title(self):
        assert AppError.title == AppError().members["detail"]

    def test_an_error_may_say_what_it_is_about(self):
        turn_id = new_id()

        error = TurnNotFound().about(turn_id=turn_id)

        assert isinstance(error, TurnNotFound)
        assert str(turn_id) == error.members["turn_id"]

    def test_what_one_is_about_is_not_what_the_next_is(self):
        TurnNotFound().about(turn_id=new_id())

        assert "turn_id" not in TurnNotFound().members

    def test_a_bug_says_nothing_of_the_inside(self):
        assert [] == list(inspect.signature(InternalError).parameters)


class TestRecalled:
    @pytest.mark.parametrize("error", sorted(set(EVERY_ERROR) - {AppError}, key=str))
    def test_what_was_written_down_is_told_again_to_the_letter(self, error: type[AppError]):
        told = error().saying("What was said then.").about(turn_id=new_id(), request_id="r")

        assert told.members == recalled(told.members).members

    def test_what_this_release_does_not_know_is_internal(self):
        assert isinstance(recalled(AppError().members | {"code": "of-old"}), InternalError)


class TestUnavailable:
    @pytest.mark.parametrize("error", [Unavailable, *heirs(Unavailable)])
    def test_clients_are_sent_back_after_one_to_five_seconds_and_not_all_at_once(
        self, error: type[Unavailable]
    ):
        assert {1, 2, 3, 4, 5} == {error().retry_after_seconds for _ in range(500)}

    @pytest.mark.parametrize(
        "error",
        sorted(
            set(EVERY_ERROR)
            - {Unavailable, *heirs(Unavailable), RateLimited, *heirs(RateLimited)},
            key=str,
        ),
    )
    def test_nobody_else_is_sent_back(self, error: type[AppError]):
        assert error().retry_after_seconds is None
