import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.core.caseless import pattern_of


def test_a_character_with_another_case_is_found_in_either():
    """As far as each is one character; those beyond the first two planes among them."""
    for character in map(chr, range(sys.maxunicode + 1)):
        # Most have no other case, and a pattern for each of a million is slow to make.
        for case in {character.lower(), character.upper(), character.casefold()} - {character}:
            if len(case) == 1 and case.casefold() == character.casefold():
                assert re.fullmatch(pattern_of(character), case), (character, case)
                assert re.fullmatch(pattern_of(case), character), (case, character)


@pytest.mark.parametrize(
    ("sought", "text", "is_found"),
    [
        ("odyssey", "The ODYSSEY", True),
        ("ὀδύσσευς", "ὈΔΎΣΣΕΥΣ", True),
        ("ὈΔΎΣΣΕΥΣ", "ὀδύσσευς", True),
        ("STRAẞE", "straße", True),
        ("strasse", "straße", False),
        ("istanbul", "İSTANBUL", True),
        ("ısparta", "ISPARTA", False),  # noqa: RUF001 - without a dot, in Turkish
        ("é", "e\u0301", False),
        ("𐐨", "𐐀", True),
    ],
)
def test_one_character_is_one_character(sought: str, text: str, *, is_found: bool):
    """What is one in a case and two in another, or written in two ways, is as it is written."""
    assert is_found is bool(re.search(pattern_of(sought), text))


@given(st.text(), st.text(min_size=1), st.text())
def test_what_is_in_a_text_is_found_there(before: str, sought: str, after: str):
    found = re.search(pattern_of(sought), before + sought + after)

    assert found
    assert found.start() <= len(before)


@given(st.text(st.sampled_from("aA.*[]^$\\-|()%_ÄäßK\u212a"), min_size=1), st.text("aAbB.\\[%_k"))
def test_no_character_has_a_meaning_of_its_own(sought: str, text: str):
    found = re.search(pattern_of(sought), text)

    assert bool(found) is (sought.casefold() in text.casefold())
