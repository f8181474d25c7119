from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest

from parley.core.errors import InvalidCursor
from parley.core.security.cursors import Cursors

PLACES: list[list[Any]] = [
    [],
    [1],
    [None],
    ["2026-11-21T03:04:05.678901+00:00", "01934a7e-6b1c-7d4e-9d38-6f1f6f1b8f3a"],
    ["ünïcödé", "🔑\u2028\n", {"a": [1.5, True]}],
]
PLACE = ["2026-11-21T03:04:05.678901+00:00", 17]


@pytest.fixture
def cursors() -> Cursors:
    return Cursors(b"k" * 32)


@pytest.fixture
def cursor(cursors: Cursors) -> str:
    return cursors.seal("ann", "conversations", PLACE)


def refuses(cursors: Cursors, cursor: str, owner: str = "ann", of: str = "conversations") -> None:
    with pytest.raises(InvalidCursor):
        cursors.open(owner, of, cursor)


class TestRoundTrip:
    @pytest.mark.parametrize("place", PLACES)
    def test_a_place_comes_back_as_it_was(self, place: list[Any], cursors: Cursors):
        assert place == cursors.open(
            "ann", "conversations", cursors.seal("ann", "conversations", place)
        )

    @pytest.mark.parametrize("place", PLACES)
    def test_a_cursor_goes_into_a_url_as_it_is(self, place: list[Any], cursors: Cursors):
        cursor = cursors.seal("ann", "conversations", place)

        assert cursor.isascii()
        assert cursor.replace("-", "").replace("_", "").isalnum()

    def test_it_is_its_place_behind_a_tag_of_16_bytes(self, cursors: Cursors):
        assert b"[1,2]" == urlsafe_b64decode(cursors.seal("ann", "keys", [1, 2]))[16:]

    def test_the_same_place_is_the_same_cursor(self, cursors: Cursors, cursor: str):
        assert cursor == cursors.seal("ann", "conversations", PLACE)


class TestRefused:
    def test_another_owner(self, cursors: Cursors, cursor: str):
        refuses(cursors, cursor, owner="bob")

    def test_another_listing(self, cursors: Cursors, cursor: str):
        refuses(cursors, cursor, of="messages")

    def test_what_of_the_owner_is_taken_for_the_listing(self, cursors: Cursors, cursor: str):
        refuses(cursors, cursor, owner="annc", of="onversations")

    def test_another_key(self, cursor: str):
        refuses(Cursors(b"l" * 32), cursor)

    def test_a_change_of_any_bit(self, cursors: Cursors, cursor: str):
        sealed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        for place in range(len(sealed) * 8):
            changed = bytearray(sealed)
            changed[place // 8] ^= 1 << place % 8
            refuses(cursors, urlsafe_b64encode(changed).rstrip(b"=").decode())

    def test_any_part_of_one(self, cursors: Cursors, cursor: str):
        for length in range(len(cursor)):
            refuses(cursors, cursor[:length])
            refuses(cursors, cursor[length + 1 :])

    def test_more_than_one(self, cursors: Cursors, cursor: str):
        refuses(cursors, cursor + cursor)
        refuses(cursors, cursor + "AAAA")

    @pytest.mark.parametrize(
        "junk",
        [
            "",
            "A",
            "AA",
            "AAAA",
            "A" * 1_000_000,
            "=",
            "====",
            "?",
            " ",
            "\n",
            "\0",
            "é",
            "🔑",
            "\ud800",
            "null",
            "[]",
            "%00",
        ],
    )
    def test_junk(self, junk: str, cursors: Cursors):
        refuses(cursors, junk)

    @pytest.mark.parametrize(
        "around", [" {}", "{}\n", "{}\0", "    {}", "{}????", "{}é", "{}\ud800", "{}%3D"]
    )
    def test_junk_around_one(self, around: str, cursors: Cursors, cursor: str):
        refuses(cursors, around.format(cursor))

    def test_json_under_no_tag(self, cursors: Cursors):
        refuses(cursors, urlsafe_b64encode(b"[1]").decode())
        refuses(cursors, urlsafe_b64encode(bytes(16) + b"[1]").decode())
