"""Row 42 of the list of attacks: no statement of ours lasts longer than its transaction."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PARLEY = Path(__file__).parents[2] / "services/api/parley"

# Through a pooler, what a session keeps is the next client's.
LASTING = re.compile(
    r"^\s*(SET\s+(?!LOCAL\b)|RESET\b|DISCARD\b|LISTEN\b|PREPARE\b)"
    r"|set_config\((?!:name, :value, true\))"
    r"|\bpg_(try_)?advisory_lock\b"
    r"|\bCREATE\s+TEMP"
)


def strings_of(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def lasting(source: str) -> list[str]:
    return [string for string in strings_of(source) if LASTING.search(string)]


class TestStatements:
    def test_none_changes_its_session(self):
        found = {path.name: lasting(path.read_text()) for path in PARLEY.rglob("*.py")}

        assert {} == {name: strings for name, strings in found.items() if strings}

    @pytest.mark.parametrize(
        "statement",
        [
            '"SET app.user_id = 1"',
            '"SET SESSION app.user_id = 1"',
            '"SET ROLE parley_owner"',
            '"RESET ALL"',
            """"SELECT set_config('app.user_id', :user_id, false)\"""",
            '"SELECT pg_advisory_lock(1)"',
            'f"SET {name} = {value}"',
        ],
    )
    def test_one_that_would_is_found(self, statement: str):
        assert 1 == len(lasting(statement))

    def test_nothing_but_the_check_speaks_of_how_long_a_commit_lasts(self):
        speaks = {
            path.name
            for path in PARLEY.rglob("*.py")
            if any("synchronous_commit" in string for string in strings_of(path.read_text()))
        }

        assert {"powers.py"} == speaks
