"""deploy/postgres/archive.yml, and what docs/point-in-time-recovery.md makes of it."""

import json
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from tests.containers.stack import Stack
from tests.processes import until

pytestmark = pytest.mark.timeout(600)

FILES = ("docker-compose.yml", "deploy/postgres/archive.yml")
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
            for volume in ("postgres", "moment", "end", "late"):
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
    def recovering(self, stack: Stack, volume: str, moment: str) -> Generator[None]:
        """As the page has it."""
        stack.environment |= {"POSTGRES_VOLUME": volume, "BASE": "base", "MOMENT": moment}
        said = stack.compose("run", "--rm", "--no-TTY", "recover")
        assert f"is brought to {moment or 'the end of the log'} when" in said
        try:
            stack.compose("up", "--detach", "postgres")
            yield
        finally:
            stack.compose("down")

    def notes(self, stack: Stack) -> str:
        stack.compose("up", "--wait", "postgres")
        until(lambda: "f" == stack.psql("SELECT pg_is_in_recovery()"))
        return stack.psql("SELECT string_agg(said, ' ') FROM notes")

    def test_at_a_moment_is_what_was_there(self, archiving: Stack, moment: str):
        with self.recovering(archiving, "moment", moment):
            assert "one two" == self.notes(archiving)

    def test_without_one_all_that_was_archived_is_there(self, archiving: Stack, moment: str):
        """As where the disk was lost."""
        assert moment
        with self.recovering(archiving, "end", ""):
            assert "one two three" == self.notes(archiving)

    def test_a_moment_behind_the_log_is_one_that_the_page_knows(
        self, archiving: Stack, moment: str
    ):
        page = (archiving.root / "docs/point-in-time-recovery.md").read_text()
        assert UNREACHABLE in " ".join(page.split())
        assert moment
        with self.recovering(archiving, "late", "2999-01-01 00:00:00+00"):
            until(lambda: UNREACHABLE in archiving.compose("logs", "postgres"))
