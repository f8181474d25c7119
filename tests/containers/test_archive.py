"""deploy/postgres/archive.yml, and what docs/point-in-time-recovery.md makes of it."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from tests.containers.stack import Stack
from tests.processes import until

pytestmark = pytest.mark.timeout(600)

FILES = ("docker-compose.yml", "deploy/postgres/archive.yml")
VOLUMES = (
    "postgres",
    "moment",
    "first",
    "latest",
    "current",
    "none",
    "cut",
    "spoken",
    "end",
    "late",
)
UNREACHABLE = "recovery ended before configured recovery target was reached"


class TestVolume:
    @pytest.mark.parametrize("recovered", [{}, {"POSTGRES_VOLUME": "recovered"}])
    def test_each_project_has_its_own_whatever_is_in_dotenv(self, recovered: dict[str, str]):
        """A drill beside a stack that was recovered would start a second server on its data."""
        stack = Stack(files=FILES, **recovered)
        volumes = json.loads(stack.compose("config", "--format", "json"))["volumes"]
        named = recovered.get("POSTGRES_VOLUME", "postgres")

        assert f"{stack.project}_{named}" == volumes["postgres"]["name"]
        assert [] == [v for v in volumes.values() if not v["name"].startswith(stack.project)]


@pytest.fixture(scope="module")
def archiving() -> Generator[Stack]:
    """PostgreSQL alone: no other service has a part in it."""
    stack = Stack(files=FILES)
    with stack.removed():
        try:
            stack.compose("up", "--wait", "--quiet-pull", "postgres")
            yield stack
        finally:
            for volume in VOLUMES:
                stack.environment["POSTGRES_VOLUME"] = volume
                stack.compose("down", "--volumes", "--timeout", "1")


@pytest.fixture(scope="module")
def moment(archiving: Stack) -> str:
    """Behind the second of three notes; the first is in the base backup. The server is down."""
    archiving.psql("CREATE TABLE notes (said text); INSERT INTO notes VALUES ('one')")
    archiving.run_in("postgres", "pg_basebackup", "--username=postgres", "--pgdata=/wal/base", "--checkpoint=fast")  # fmt: skip
    archiving.psql("INSERT INTO notes VALUES ('two')")
    moment = archiving.psql("SELECT now()")
    archiving.psql("INSERT INTO notes VALUES ('three')")
    archiving.compose("down")
    return moment


class TestRecovery:
    @contextmanager
    def recovering(self, stack: Stack, volume: str, moment: str) -> Generator[str]:
        """As the page has it."""
        stack.environment |= {"POSTGRES_VOLUME": volume, "BASE": "base", "MOMENT": moment}
        said = stack.compose("run", "--rm", "--no-TTY", "recover")
        try:
            stack.compose("up", "--detach", "postgres")
            yield said
        finally:
            stack.compose("down")

    def notes(self, stack: Stack) -> str:
        stack.compose("up", "--wait", "postgres")
        until(lambda: "f" == stack.psql("SELECT pg_is_in_recovery()"))
        return stack.psql("SELECT string_agg(said, ' ') FROM notes")

    @pytest.fixture(autouse=True)
    def of_one_history(self, archiving: Stack) -> None:
        """What another test has recovered is a newer one."""
        archiving.environment["TIMELINE"] = "current"

    def test_at_a_moment_is_what_was_there(self, archiving: Stack, moment: str):
        with self.recovering(archiving, "moment", moment) as said:
            assert (
                f"is brought to {datetime.fromisoformat(moment):%Y-%m-%d %H:%M:%S.%f+00} when"
                in said
            )
            assert "one two" == self.notes(archiving)

    def test_once_recovered_another_moment_is_reached_by_the_history_of_the_base_backup(
        self, archiving: Stack, moment: str
    ):
        """The newest history is the one that was recovered, and has nothing behind that moment."""
        with self.recovering(archiving, "first", moment):
            assert "one two" == self.notes(archiving)
        for timeline, notes in {"latest": "one two", "current": "one two three"}.items():
            archiving.environment["TIMELINE"] = timeline
            with self.recovering(archiving, timeline, ""):
                assert notes == self.notes(archiving)

    def test_what_is_no_history_is_refused(self, archiving: Stack, moment: str):
        archiving.environment |= {"POSTGRES_VOLUME": "none", "BASE": "base", "MOMENT": moment}
        archiving.environment["TIMELINE"] = "it's"
        said = archiving.compose("run", "--rm", "--no-TTY", "recover", check=False)
        assert "TIMELINE is latest, current" in said

    def test_what_was_cut_short_is_done_anew(self, archiving: Stack, moment: str):
        """What is left of it would be half of a database, with a whole one inside."""
        archiving.environment["POSTGRES_VOLUME"] = "cut"
        left = "mkdir -p $PGDATA.part && touch $PGDATA.part/left"
        archiving.compose("run", "--rm", "--no-TTY", "--entrypoint", "bash", "recover", "-c", left)
        with self.recovering(archiving, "cut", moment):
            assert "one two" == self.notes(archiving)
            assert "left" not in archiving.run_in("postgres", "sh", "-c", "ls $PGDATA")

    def test_a_moment_is_what_it_was_taken_for(self, archiving: Stack, moment: str):
        """Of words PostgreSQL knows less than who looks at them first, and would not start."""
        assert moment
        tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
        with self.recovering(archiving, "spoken", "tomorrow 12:00 (Ann's)") as said:
            assert f"is brought to {tomorrow} 12:00:00.000000+00 when" in said
            until(lambda: UNREACHABLE in archiving.compose("logs", "postgres"))

    def test_without_one_all_that_was_archived_is_there(self, archiving: Stack, moment: str):
        """As where the disk was lost."""
        assert moment
        with self.recovering(archiving, "end", "") as said:
            assert "is brought to the end of the log when" in said
            assert "one two three" == self.notes(archiving)

    def test_a_moment_behind_the_log_is_one_that_the_page_knows(
        self, archiving: Stack, moment: str
    ):
        page = (archiving.root / "docs/point-in-time-recovery.md").read_text()
        assert UNREACHABLE in " ".join(page.split())
        assert moment
        with self.recovering(archiving, "late", "2999-01-01 00:00:00+00"):
            until(lambda: UNREACHABLE in archiving.compose("logs", "postgres"))
