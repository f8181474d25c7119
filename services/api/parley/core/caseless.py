"""
Text that is found whatever its case, the same in Python, in SQLite and in PostgreSQL.

A database folds case by its own locale and its own release of Unicode. So it is asked for a pattern
that names the cases of each character one by one: it has nothing to fold, and no character in it
has a meaning of its own. docs/decisions/0028 says what else was tried.
"""

from functools import cache

# No letter beyond the first two planes has a case; a test looks.
_CASED = range(0x20000)


def pattern_of(text: str) -> str:
    """A regular expression, for `re` and for PostgreSQL's `~`, that is found wherever `text` is."""
    return "".join(map(_cases_of, text))


def folded(character: str) -> str:
    """
    Unicode's simple folding, one character for one: both small sigmas are the same, ß is not ss.

    İ, which that leaves as it is, is i.
    """
    whole = character.casefold()
    return whole if len(whole) == 1 else character.lower()[0]


def _cases_of(character: str) -> str:
    plain = folded(character)
    return f"[{''.join(map(_escaped, plain + _others().get(plain, '')))}]"


def _escaped(character: str) -> str:
    return f"\\U{ord(character):08x}"


@cache
def _others() -> dict[str, str]:
    """By each folded character, the others that fold to it."""
    others: dict[str, str] = {}
    for character in map(chr, _CASED):
        if (plain := folded(character)) != character:
            others[plain] = others.get(plain, "") + character
    return others
