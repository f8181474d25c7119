"""`make backup` of a stack that is written to, and `make restore` into another one."""

import json
import os
import re
import stat
import subprocess
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from parley.crud.ports import SCHEMA_REVISION
from tests.containers.conftest import Say
from tests.containers.stack import ROOT, Stack
from tests.processes import account, until
from tests.processes import say as say_to
from tests.transcripts import read_whole
from tests.writers import check, until_all_have_written, writing

pytestmark = pytest.mark.timeout(600)

SCHEMA = ("pg_dump", "--username=postgres", "--schema-only", "--schema=public", "parley")
FOLDER = "/var/lib/parley/files"
# For a lock that it has asked for.
WAITING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE application_name = 'parley backup' AND wait_event_type = 'Lock'"
)
HELD = "held@example.com"
# Before there were files.
OLDER = """
from alembic import command
from alembic.config import Config

from parley.cli.environment import stand_alone
stand_alone()
from parley.cli.migrate import ALEMBIC_INI
from parley.core.settings import load_settings

config = Config(ALEMBIC_INI)
config.attributes["url"] = load_settings().migration_url
command.upgrade(config, "0005")
"""


class Taken(NamedTuple):
    folder: Path
    manifest: dict[str, Any]
    answered: list[int]
    held: str
    schema: str


@pytest.fixture(scope="module")
def somebody(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of somebody's who is neither root nor a user of the images, and who that is."""
    folder = tmp_path_factory.mktemp("backups")
    user = (os.getuid(), os.getgid()) if os.getuid() else (4321, 4321)
    os.chown(folder, *user)
    return folder, ":".join(map(str, user))


def schema_of(stack: Stack) -> str:
    lines = stack.run_in("postgres", *SCHEMA).splitlines()
    # Each dump has a key of its own.
    return "\n".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict")))


def hold(stack: Stack) -> str:
    """A conversation in which a process that is alive runs a turn, for ever."""
    with account(stack.url(), HELD) as client:
        conversation_id = str(say_to(client, "before")["conversation_id"])
    stack.psql(
        "INSERT INTO turns (user_id, id, conversation_id, status, message, worker_id, fence,"  # noqa: S608
        " cancel_requested, created_at) SELECT user_id, gen_random_uuid(), conversation_id, 'running',"
        " 'lost', (SELECT id FROM workers LIMIT 1), gen_random_uuid(), false, now()"
        f" FROM turns WHERE conversation_id = '{conversation_id}'"
    )
    return conversation_id


@pytest.fixture(scope="module")
def taken(stack: Stack, somebody: tuple[Path, str]) -> Taken:
    """
    While turns and files are written, and files deleted; much of it between the count of the first
    rows and the dump, and between the dump and the copies of the files.
    """
    to, user = somebody
    held = hold(stack)
    with (
        writing(stack.url()) as written,
        ThreadPoolExecutor(1) as threads,
    ):
        with stack.in_transaction("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE"):
            answered = until_all_have_written(written)
            making = threads.submit(stack.make, "backup", to=str(to), keep="1", **{"as": user})
            until(lambda: "1" == stack.psql(WAITING) or making.done())
            until_all_have_written(written)
        done = making.result()
        assert 0 == done.returncode, done.stderr
    (folder,) = to.iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    return Taken(folder, manifest, answered, held, schema_of(stack))


@pytest.fixture(scope="module")
def there() -> Generator[Stack]:
    with Stack().running() as there:
        yield there


@pytest.fixture
def empty(there: Stack) -> Stack:
    """Without a table, as before its first migration; nobody is connected."""
    there.compose("stop", "api")
    there.psql(
        "DO $$ BEGIN EXECUTE (SELECT 'DROP TABLE ' || string_agg(format('public.%I', tablename), ',')"
        " FROM pg_tables WHERE schemaname = 'public'); EXCEPTION WHEN null_value_not_allowed THEN END $$"
    )
    there.compose("run", "--rm", "--no-deps", "--entrypoint", "find", "api", FOLDER, "-type", "f", "-delete")  # fmt: skip
    return there


def restored(stack: Stack, taken: Taken, user: str) -> subprocess.CompletedProcess[str]:
    return stack.make("restore", **{"from": str(taken.folder), "as": user})


def refused(stack: Stack, taken: Taken, user: str) -> str:
    ended = restored(stack, taken, user)
    assert 0 != ended.returncode
    return ended.stdout + ended.stderr


@contextmanager
def one_byte_changed(path: Path) -> Generator[None]:
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    try:
        yield
    finally:
        path.write_bytes(whole)


@contextmanager
def one_row_more(taken: Taken) -> Generator[None]:
    """In what the manifest says."""
    path = taken.folder / "manifest.json"
    whole = path.read_text()
    rows = taken.manifest["rows"] | {"users": taken.manifest["rows"]["users"] + 1}
    path.write_text(json.dumps(taken.manifest | {"rows": rows}))
    try:
        yield
    finally:
        path.write_text(whole)


class TestBackup:
    def test_it_is_theirs_alone_who_asked_for_it(self, taken: Taken, somebody: tuple[Path, str]):
        owner, _, _ = somebody[1].partition(":")
        for path in (taken.folder, *taken.folder.rglob("*")):
            status = path.stat()
            assert (int(owner), 0) == (status.st_uid, stat.S_IMODE(status.st_mode) & 0o077), path

    def test_its_checksums_are_those_of_what_is_in_it(self, taken: Taken):
        copy = (taken.folder / "database.dump").read_bytes()
        listed = (taken.folder / "files.sha256").read_bytes()

        assert {
            "name": "database.dump",
            "size": len(copy),
            "sha256": sha256(copy).hexdigest(),
        } == taken.manifest["database"]
        assert sha256(listed).hexdigest() == taken.manifest["files"]["list_sha256"]
        for line in listed.decode().splitlines():
            content = (taken.folder / line[66:]).read_bytes()
            assert sha256(content).hexdigest() == line[:64]

    def test_every_file_is_in_it_or_was_deleted_meanwhile(self, taken: Taken):
        named, manifest = taken.manifest["rows"]["files"], taken.manifest

        assert named == manifest["files"]["count"] + len(manifest["deleted"])
        assert [] == manifest["lost"]
        assert "workers" not in manifest["rows"]


class TestRestore:
    @pytest.mark.parametrize("schema", ["none", "this release's"])
    def test_all_is_there_whole_and_gapless_and_the_database_as_a_migrated_one(
        self,
        empty: Stack,
        taken: Taken,
        somebody: tuple[Path, str],
        schema: str,
        say: Say,
    ):
        if schema != "none":
            empty.compose("run", "--rm", "migrate")
        done = restored(empty, taken, somebody[1])
        assert 0 == done.returncode, done.stderr

        assert taken.schema == schema_of(empty)
        empty.up()
        for number, at_least in enumerate(taken.answered):
            check(empty.url(), number, at_least)
        self.check_held(empty, taken.held)
        rows, files = sum(taken.manifest["rows"].values()), taken.manifest["files"]["count"]
        say(f"backed up under writers and restored: {rows} rows, {files} files")

    def check_held(self, stack: Stack, conversation_id: str) -> None:
        """What ran when the backup was made runs nowhere."""
        with account(stack.url(), HELD) as client:
            assert say_to(client, "behind", conversation_id)["message"]["position"] == 3
            asked, _ = read_whole(client, conversation_id)
        assert ["before", "behind"] == [one["content"] for one in asked]
        assert "failed" == stack.psql(
            f"SELECT status FROM turns WHERE message = 'lost' AND conversation_id = '{conversation_id}'"  # noqa: S608
        )

    def test_what_is_not_as_it_was_made_changes_nothing(
        self, empty: Stack, taken: Taken, somebody: tuple[Path, str]
    ):
        with one_byte_changed(taken.folder / "database.dump"):
            assert "dump differs from manifest.json" in refused(empty, taken, somebody[1])
        assert "" == self.kept(empty)
        # What only the dump itself can show.
        with one_row_more(taken):
            assert "and the manifest says" in refused(empty, taken, somebody[1])
        assert "0" == empty.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")

    def test_a_database_with_rows_or_in_use_is_left_as_it_is(
        self, stack: Stack, empty: Stack, taken: Taken, somebody: tuple[Path, str]
    ):
        before = stack.psql("SELECT count(*) FROM turns")
        assert "The database is not empty" in refused(stack, taken, somebody[1])
        assert before == stack.psql("SELECT count(*) FROM turns")

        empty.up()
        assert "The database is in use by parley_api" in refused(empty, taken, somebody[1])
        assert "" == self.kept(empty)
        with account(empty.url(), f"{uuid4().hex}@example.com") as client:
            assert "You said: hello" in say_to(client, "hello")["reply"]["content"]

    def kept(self, stack: Stack) -> str:
        return stack.compose(
            "run", "--rm", "--no-deps", "--entrypoint", "find", "api", FOLDER, "-type", "f"
        )


class TestOlder:
    def test_it_is_backed_up_by_this_release_and_brought_to_its_schema(
        self, empty: Stack, somebody: tuple[Path, str], tmp_path: Path
    ):
        """As one does before `make up` of a new one."""
        empty.compose("run", "--rm", "--no-TTY", "--entrypoint", "python", "migrate", "-c", OLDER)
        empty.psql("INSERT INTO users (id, email, password_hash, created_at) VALUES ('ann', 'a@example.com', 'x', now())")  # fmt: skip
        user = somebody[1]
        os.chown(tmp_path, *map(int, user.split(":")))

        done = empty.make("backup", to=str(tmp_path), **{"as": user})
        assert 0 == done.returncode, done.stderr
        (folder,) = tmp_path.iterdir()
        manifest = json.loads((folder / "manifest.json").read_text())
        assert ("0005", 1) == (manifest["revision"], manifest["rows"]["users"])
        empty.psql("DELETE FROM users")
        done = empty.make("restore", **{"from": str(folder), "as": user})

        assert 0 == done.returncode, done.stderr
        assert SCHEMA_REVISION == empty.psql("SELECT version_num FROM alembic_version")
        assert "ann" == empty.psql("SELECT id FROM users")
        assert "0" == empty.psql("SELECT count(*) FROM files")


class TestServers:
    def test_what_only_a_server_of_17_knows_is_in_the_dump_and_not_in_what_is_restored(
        self, stack: Stack, taken: Taken, somebody: tuple[Path, str]
    ):
        """Before 17 it would fail at `SET transaction_timeout`."""
        stack.environment["BACKUPS"] = str(taken.folder.parent)
        folder = f"/backups/{taken.folder.name}"

        def shown(command: str) -> list[str]:
            told = stack.compose(
                "run", "--rm", "--no-TTY", "--user", somebody[1], "dump", "-c", command
            )
            return told.splitlines()

        dumped = shown(f"pg_restore --file=- --schema=public --no-owner --no-privileges {folder}/database.dump")  # fmt: skip
        restored = shown(f"psql() {{ cat; }}; export -f psql; /scripts/restore.sh {folder}")

        # Each has a key of its own.
        dumped = [line for line in dumped if not line.startswith(("\\restrict", "\\unrestrict"))]
        assert {"SET transaction_timeout = 0;"} == {*dumped} - {*restored}


class TestSecrets:
    def test_the_pages_lines_bring_them_into_another_stack(self, stack: Stack, tmp_path: Path):
        """And what is in between is nobody else's to read."""
        page = (ROOT / "docs/backup.md").read_text()
        take, put = re.findall(r"^.*docker compose run .*secrets\.tar.*$", page, re.MULTILINE)
        other = Stack()

        def type_into(of: Stack, line: str) -> None:
            compose = f"docker compose -p {of.project} --project-directory {ROOT} -f {ROOT}/docker-compose.yml"
            subprocess.run(
                ["bash", "-ec", line.replace("docker compose", compose)],
                cwd=tmp_path, env=of.environment, check=True, capture_output=True,
            )  # fmt: skip

        def secrets_of(of: Stack) -> str:
            return of.compose(
                "run", "--rm", "--no-TTY", "--entrypoint", "sh", "secrets", "-c",
                "cd /secrets && find . -type f -exec sha256sum {} + | sort && find . -printf '%M %u %p\n' | sort",
            )  # fmt: skip

        type_into(stack, take)
        assert 0o600 == stat.S_IMODE((tmp_path / "var/secrets.tar").stat().st_mode)
        with other.removed():
            type_into(other, put)
            other.compose("run", "--rm", "--no-TTY", "secrets")
            assert "api/auth-secret" in secrets_of(stack)
            assert secrets_of(stack) == secrets_of(other)


class TestConcurrent:
    def test_of_two_backups_at_once_one_is_refused(self, stack: Stack, somebody: tuple[Path, str]):
        to, user = somebody
        holding = subprocess.Popen(["flock", str(to), "cat"], stdin=subprocess.PIPE)
        try:
            ended = stack.make("backup", to=str(to), **{"as": user})
        finally:
            holding.communicate()
        assert 0 != ended.returncode
        assert "Another backup is being made" in ended.stderr + ended.stdout
