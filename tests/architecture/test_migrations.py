"""No migration waits for ever, or does to a table with rows what everybody waits for."""

import re
from pathlib import Path

import pytest
from alembic.script import Script

from tests.migration_lint import Direction, lint, scripts, sql_of
from tests.migrations import NEXT, draft, migration, the_recipe

DIRECTIONS: tuple[Direction, ...] = ("upgrade", "downgrade")
NOWHERE = "postgresql://nobody@nowhere/parley"
HEADINGS = ("\nLocks: ", "\nUndo: ")
LIMITS = {"lock_timeout", "statement_timeout"}
LIMIT = re.compile(r"(SET LOCAL|SET|RESET) (\w+_timeout)(?: = '[1-9][0-9]*(?:ms|s|min)')?")
BUILDS = re.compile(r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY (.+?) ON ")
BOUNDED = (
    "op.execute(\"SET LOCAL lock_timeout = '4s'\")",
    ("op.execute(\"SET LOCAL statement_timeout = '30s'\")"),
)


def statements(sql: str) -> list[str]:
    said = re.sub(r"^--.*$", "", sql, flags=re.MULTILINE).split(";\n")
    return [statement.strip() for statement in said if statement.strip()]


def unbounded(sql: str) -> list[str]:
    """Statements that no limit holds for, and limits that last longer than the migration."""
    found: list[str] = []
    of_session, of_transaction = set[str](), set[str]()
    is_in_transaction = False
    for statement in statements(sql):
        limit = LIMIT.fullmatch(statement)
        match limit.groups() if limit else (statement, None):
            case ("BEGIN" | "COMMIT", _):
                is_in_transaction = statement == "BEGIN"
                of_transaction.clear()
            case ("SET", name):
                of_session.add(name)
            case ("RESET", name):
                of_session.discard(name)
            case ("SET LOCAL", name):
                of_transaction |= {name} if is_in_transaction else set()
            case _ if "alembic_version" in statement:
                continue  # Alembic's own
            case _ if LIMITS - of_session - of_transaction:
                found.append(statement)
    return [*found, *sorted(of_session)]


def leaves_an_invalid_index(sql: str) -> list[str]:
    """Indexes that an interrupted run would leave to the next one, which would fail or skip them."""
    said = statements(sql)
    return [
        name
        for number, statement in enumerate(said)
        for name in BUILDS.findall(statement)
        if f"DROP INDEX CONCURRENTLY IF EXISTS {name}" not in said[:number]
    ]


def drafted(folder: Path, text: str) -> tuple[Script, Path]:
    config = draft(folder, NOWHERE, text)
    ini = Path(str(config.config_file_name))
    return next(script for script in scripts(ini) if script.revision == NEXT), ini


class TestEachMigration:
    @pytest.mark.parametrize("script", scripts(), ids=lambda script: script.revision)
    def test_says_its_locks_and_its_undo(self, script: Script):
        assert [] == [heading for heading in HEADINGS if heading not in script.module.__doc__]

    @pytest.mark.parametrize("script", scripts(), ids=lambda script: script.revision)
    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_waits_for_no_lock_and_no_statement_for_ever(
        self, script: Script, direction: Direction
    ):
        assert [] == unbounded(sql_of(script, direction=direction))

    @pytest.mark.parametrize("script", scripts(), ids=lambda script: script.revision)
    def test_finds_what_it_left_where_it_was_interrupted(self, script: Script):
        assert [] == leaves_an_invalid_index(sql_of(script))


class TestOneThatWaitsForEver:
    @pytest.mark.parametrize("direction", DIRECTIONS)
    @pytest.mark.parametrize(
        "limits",
        [
            (),
            BOUNDED[:1],
            BOUNDED[1:],
            (BOUNDED[0], BOUNDED[1].replace("30s", "0s")),
            (BOUNDED[0], BOUNDED[1], 'op.execute("COMMIT")'),
            (BOUNDED[0], BOUNDED[1].replace("LOCAL ", "")),
        ],
    )
    def test_is_found(self, tmp_path: Path, limits: tuple[str, ...], direction: Direction):
        body = (*limits, 'op.execute("LOCK TABLE turns")')
        good = (*BOUNDED, *body[-1:])
        text = "\n".join(
            f"def {name}() -> None:\n    "
            + "\n    ".join(body if name == direction else good)
            + "\n"
            for name in DIRECTIONS
        )
        script, ini = drafted(tmp_path, migration(text))

        for name in DIRECTIONS:
            found = unbounded(sql_of(script, ini, direction=name))
            assert (name == direction) == bool(found), found

    def test_is_not_the_recipe(self, tmp_path: Path):
        script, ini = drafted(tmp_path, the_recipe())

        for direction in DIRECTIONS:
            assert [] == unbounded(sql_of(script, ini, direction=direction))
        assert [] == leaves_an_invalid_index(sql_of(script, ini))
        assert (0, "") == (lint(ini).returncode, lint(ini).stderr)

    @pytest.mark.parametrize(
        ("recipe", "mistake"),
        [
            ('op.execute("SET lock', 'op.execute("SET LOCAL lock'),
            ('op.execute("RESET lock_timeout")', "pass"),
        ],
    )
    def test_is_the_recipe_with_a_limit_that_does_not_hold_or_stays(
        self, tmp_path: Path, recipe: str, mistake: str
    ):
        script, ini = drafted(tmp_path, the_recipe().replace(recipe, mistake))

        for direction in DIRECTIONS:
            assert [] != unbounded(sql_of(script, ini, direction=direction))

    @pytest.mark.parametrize(
        ("recipe", "mistake"),
        [("if_exists=True, ", ""), ("op.drop_index", "lambda: op.drop_index")],
    )
    def test_one_that_would_stumble_over_an_invalid_index_is_found(
        self, tmp_path: Path, recipe: str, mistake: str
    ):
        script, ini = drafted(tmp_path, the_recipe().replace(recipe, mistake))

        assert ["ix_turns_worker_id"] == leaves_an_invalid_index(sql_of(script, ini))


class TestOneThatHurts:
    @pytest.mark.parametrize(
        ("statement", "rule"),
        [
            ("CREATE INDEX ix ON turns (worker_id)", "require-concurrent-index-creation"),
            ("DROP INDEX ix", "require-concurrent-index-deletion"),
            ("ALTER TABLE turns ADD a uuid DEFAULT gen_random_uuid()", "adding-field-with-default"),
            ("ALTER TABLE turns ADD a text NOT NULL", "adding-required-field"),
            ("ALTER TABLE turns ADD CONSTRAINT a FOREIGN KEY (id) REFERENCES files (id)",
             "adding-foreign-key-constraint"),
            ("ALTER TABLE turns ADD CONSTRAINT a CHECK (id > 0)", "constraint-missing-not-valid"),
            ("ALTER TABLE turns ADD CONSTRAINT a UNIQUE (id)", "disallowed-unique-constraint"),
            ("ALTER TABLE turns ALTER a TYPE bigint", "changing-column-type"),
            ("ALTER TABLE turns ALTER a SET NOT NULL", "adding-not-nullable-field"),
            ("ALTER TABLE turns DROP a", "ban-drop-column"),
            ("ALTER TABLE turns RENAME a TO b", "renaming-column"),
            ("DROP TABLE turns", "ban-drop-table"),
            ("ALTER TABLE turns ADD CONSTRAINT a CHECK (id > 0) NOT VALID",
             "ban-new-write-restriction"),
        ],
    )  # fmt: skip
    def test_is_found_and_named_and_passes_by_a_line_in_its_docstring(
        self, tmp_path: Path, statement: str, rule: str
    ):
        text = migration(
            "def upgrade() -> None:\n    "
            + "\n    ".join((*BOUNDED, f'op.execute("{statement}")'))
        )
        found = self.found(tmp_path / "as-it-is", text)
        assert rule in found
        assert {f"{NEXT}_draft.sql"} == {where for rules in found.values() for where in rules}

        allowed = "".join(f"Allows: {name}, since it is a test.\n" for name in found)
        text = text.replace('needed.\n"""', f'needed.\n{allowed}"""')
        assert {} == self.found(tmp_path / "allowed", text)

    def found(self, folder: Path, text: str) -> dict[str, set[str]]:
        _, ini = drafted(folder, text)
        linted = lint(ini, reporter="gcc")
        found: dict[str, set[str]] = {}
        for where, rule in re.findall(r"^(\S+?):\S+ warning: (\S+)", linted.stdout, re.MULTILINE):
            found.setdefault(rule, set()).add(where)
        assert bool(found) == bool(linted.returncode), linted
        return found
