"""The embedded database and its files, backed up and restored; and all that is refused."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from datetime import datetime, tzinfo
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from alembic import command
from alembic.config import Config

from parley.cli.backups import BackedUp, Refused, back_up, lines_of, restore
from parley.cli.migrate import ALEMBIC_INI, upgrade
from parley.core.ids import new_id
from parley.core.settings import InvalidSettings, Settings
from parley.crud.objects import backup_folder
from parley.crud.objects.backups import Backup, NotWhole, Unfinished
from parley.crud.ports import SCHEMA_REVISION
from parley.crud.sql import sqlite_copy
from parley.schemas.files import FileMetadata
from parley.wiring import open_blobs
from tests.factories import (
    PROBLEM,
    accept,
    make_account,
    make_conversation,
    make_file,
    new_turn,
    record,
)
from tests.stores import TIMEOUT_SECONDS, patient_store


class Noon(datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Noon":
        return cls(2026, 11, 30, 12, tzinfo=tz)


class Place(NamedTuple):
    """An embedded database, and a folder of files."""

    database: Path
    files: Path

    @property
    def settings(self) -> Settings:
        return Settings(
            database_url=f"sqlite:///{self.database}",
            files_url=f"file://{self.files}",
            database_timeout_seconds=TIMEOUT_SECONDS,
        )

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """All there are but those of processes."""
        with closing(sqlite3.connect(self.database)) as database:
            return {
                table: sorted(database.execute(f'SELECT * FROM "{table}"'), key=str)  # noqa: S608
                for table in sqlite_copy.rows_of(self.database)
            }

    def bytes(self) -> dict[str, bytes]:
        if not self.files.exists():
            return {}
        return {path.name: path.read_bytes() for path in self.files.iterdir()}


@pytest.fixture
def here(sqlite_url: str, tmp_path: Path) -> Place:
    return Place(Path(sqlite_url.removeprefix("sqlite:///")), tmp_path / "files")


@pytest.fixture
def there(tmp_path: Path) -> Place:
    """Where nothing is yet."""
    return Place(tmp_path / "there/parley.db", tmp_path / "there/files")


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "backups"


async def put(place: Place, user_id: str, content: bytes) -> FileMetadata:
    async with AsyncExitStack() as closing:
        store = patient_store(f"sqlite:///{place.database}")
        closing.push_async_callback(store.close)
        digest = sha256(content).hexdigest()
        file = await make_file(store, user_id, size=len(content), sha256=digest)
        async with open_blobs(place.settings, closing).write(file.id) as writer:
            await writer.write(content)
        return file


@pytest.fixture
async def filled(here: Place, alice: str) -> Place:
    """With an account, two whole turns, one that runs, and two files."""
    store = patient_store(f"sqlite:///{here.database}")
    await make_account(store, alice)
    conversation = await make_conversation(store, alice)
    for message in ("one", "two"):
        await record(store, alice, conversation.id, message)
    worker_id = new_id()
    await store.renew(worker_id)
    await accept(store, alice, new_turn(conversation.id, "three", worker_id=worker_id))
    await store.close()
    for content in (b"", b"hello" * 300_000):
        await put(here, alice, content)
    return here


def backed_up(place: Place, to: Path, keep: int | None = None) -> BackedUp:
    return back_up(place.settings, to, only_files=False, keep=keep)


class TestBackup:
    def test_what_is_restored_is_what_was_there(self, filled: Place, there: Place, to: Path):
        folder, manifest, _ = backed_up(filled, to)

        assert manifest == restore(there.settings, folder, only_files=False)
        assert filled.rows() == there.rows()
        assert filled.bytes() == there.bytes()
        assert {name: len(rows) for name, rows in filled.rows().items()} == manifest.rows
        assert (4, 2, 1_500_000) == (
            manifest.rows["messages"], manifest.files.count, manifest.files.total_bytes
        )  # fmt: skip
        assert SCHEMA_REVISION == manifest.revision
        assert [folder] == [*to.iterdir()]

    def test_the_list_of_files_is_one_that_others_check(self, filled: Place, to: Path):
        """`sha256sum --check files.sha256`, in the folder."""
        folder = backed_up(filled, to).folder

        lines = (folder / "files.sha256").read_text().splitlines()
        assert sorted(lines) == sorted(
            f"{sha256(content).hexdigest()}  files/{name}"
            for name, content in filled.bytes().items()
        )
        for line in lines:
            assert sha256((folder / line[66:]).read_bytes()).hexdigest() == line[:64]

    async def test_a_turn_that_was_running_is_nobodys_and_fails(
        self, filled: Place, there: Place, to: Path, alice: str
    ):
        """Its process may well be alive, and is not the restored database's."""
        await in_thread(
            lambda: restore(there.settings, backed_up(filled, to)[0], only_files=False)
        )
        store = patient_store(f"sqlite:///{there.database}")
        async with store.begin(alice) as tx:
            (conversation,) = await tx.conversations.newest(10, None)
            assert await tx.turns.close_abandoned(conversation.id, PROBLEM)
        await store.close()

    def test_it_is_of_one_moment_whatever_is_written_meanwhile(
        self, filled: Place, to: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(sqlite_copy, "PAGES_AT_ONCE", 1)
        before = len(filled.rows()["conversations"])
        heard = []

        def write(copied: int, total: int) -> None:
            heard.append((copied, total))
            with closing(sqlite3.connect(filled.database, isolation_level=None)) as database:
                database.execute(
                    "INSERT INTO conversations SELECT user_id, hex(randomblob(16)), title,"
                    " instructions, metadata, 0, created_at, updated_at FROM conversations LIMIT 1"
                )

        monkeypatch.setattr("parley.cli.backups._say_pages", write)
        manifest = backed_up(filled, to).manifest

        assert before == manifest.rows["conversations"] < len(filled.rows()["conversations"])
        pages = heard[0][1]
        assert [(page, pages) for page in range(1, pages + 1)] == heard

    def test_one_that_nobody_finished_is_taken_for_none_and_gives_way(
        self, filled: Place, to: Path
    ):
        left = backup_folder.begin(to_made(to))
        (left.path / "database.sqlite").write_text("half")

        with pytest.raises(NotWhole, match=r"manifest\.json cannot be read"):
            Backup(left.path).manifest()
        assert [backed_up(filled, to).folder] == [*to.iterdir()]

    def test_of_two_at_once_one_is_refused(self, filled: Place, to: Path):
        with backup_folder.alone(to), pytest.raises(Refused, match="Another backup"):
            backed_up(filled, to)

    def test_as_many_are_kept_as_is_said_and_what_is_called_otherwise(
        self, filled: Place, to: Path
    ):
        to_made(to)
        old, older, other = (
            to / name for name in ("2001-01-02T00-00-00Z", "2001-01-01T00-00-00Z", "by-hand")
        )
        for path in (old, older, other):
            (path / "files").mkdir(parents=True)
            (path / "manifest.json").touch()

        new = backed_up(filled, to, keep=2)

        assert [older] == [*new.removed]
        assert {new.folder, old, other} == {*to.iterdir()}

    def test_one_that_is_made_stays_whatever_the_names_beside_it_say(
        self, filled: Place, to: Path
    ):
        """As after a clock that was wrong."""
        later = to_made(to) / "2999-01-01T00-00-00Z"
        later.mkdir()

        new = backed_up(filled, to, keep=1)

        assert ([later], [new.folder]) == ([*new.removed], [*to.iterdir()])

    def test_what_only_a_link_leads_to_stays_and_is_not_counted(self, filled: Place, to: Path):
        """Somebody has moved it to a larger disk."""
        elsewhere = to.with_name("larger-disk")
        elsewhere.mkdir()
        (elsewhere / "manifest.json").touch()
        to_made(to)
        linked, old = (to / f"2001-01-0{day}T00-00-00Z" for day in (1, 2))
        linked.symlink_to(elsewhere)
        old.mkdir()

        new = backed_up(filled, to, keep=1)

        assert [old] == [*new.removed]
        assert {linked, new.folder} == {*to.iterdir()}
        assert (elsewhere / "manifest.json").exists()

    def test_of_two_in_one_second_one_is_refused(
        self, filled: Place, to: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """A backup is named for its moment."""
        monkeypatch.setattr(sqlite_copy, "datetime", Noon)
        first = backed_up(filled, to)

        with pytest.raises(Refused, match=r"12-00-00Z is there already: .* again in a second"):
            backed_up(filled, to)
        assert first.manifest == Backup(first.folder).manifest()

    async def test_the_newest_that_has_what_a_file_has_lost_stays(self, filled: Place, to: Path):
        lost, kept = [path.name for path in filled.files.iterdir()]
        old, older, oldest = (to / f"2001-01-0{day}T00-00-00Z" for day in (3, 2, 1))
        for path, name in ((old, kept), (older, lost), (oldest, lost)):
            (path / "files").mkdir(parents=True)
            (path / "files" / name).touch()
        (filled.files / lost).unlink()

        new = await in_thread(lambda: backed_up(filled, to, keep=1))

        assert [lost] == [*map(str, new.manifest.lost)]
        assert [old, oldest] == [*new.removed]
        assert {older, new.folder} == {*to.iterdir()}

    async def test_what_was_deleted_behind_the_dump_that_was_restored_is_not_lost(
        self, filled: Place, to: Path, alice: str
    ):
        """Else every backup would fail until its user is back."""
        gone = await put(filled, alice, b"hello")
        made = await in_thread(lambda: backed_up(filled, to))
        restored = made.folder.rename(to / "2001-01-01T00-00-00Z")
        edit(restored, deleted=[str(gone.id)])
        (filled.files / str(gone.id)).unlink()

        new = await in_thread(lambda: backed_up(filled, to))

        assert ((gone.id,), ()) == (new.manifest.deleted, new.manifest.lost)

    async def test_files_without_their_bytes_are_named_and_the_others_kept(
        self, filled: Place, there: Place, to: Path, alice: str
    ):
        lost, cut, damaged = [await put(filled, alice, b"some bytes") for _ in range(3)]
        (filled.files / str(lost.id)).unlink()
        (filled.files / str(cut.id)).write_bytes(b"some")
        (filled.files / str(damaged.id)).write_bytes(b"SOME BYTES")

        folder, manifest, _ = await in_thread(lambda: backed_up(filled, to))
        await in_thread(lambda: restore(there.settings, folder, only_files=False))

        assert (lost.id, cut.id, damaged.id) == manifest.lost
        assert () == manifest.deleted
        gone = {str(file.id) for file in (lost, cut, damaged)}
        assert {
            name: content for name, content in filled.bytes().items() if name not in gone
        } == there.bytes()
        said = lines_of(folder, manifest)
        assert "  3 without their bytes before: is FILES_URL the right one?" in said
        assert f"    {cut.id}" in said

    async def test_a_file_that_is_deleted_meanwhile_is_not_one_that_was_lost(
        self, filled: Place, to: Path, alice: str
    ):
        """As it is behind a dump of PostgreSQL, which another program has made before."""
        kept, lost = [await put(filled, alice, b"hello") for _ in range(2)]
        (filled.files / str(lost.id)).unlink()
        gone = new_id()
        begun(
            to, *(f"{sha256(b'hello').hexdigest()}  files/{i}" for i in (kept.id, lost.id, gone))
        )

        folder, manifest, _ = await in_thread(
            lambda: back_up(filled.settings, to, only_files=True, keep=None)
        )

        assert ((gone,), (lost.id,), 1) == (
            manifest.deleted, manifest.lost, manifest.files.count
        )  # fmt: skip
        assert {"conversations": 3, "files": 3} == manifest.rows
        assert {"database.dump", "files", "files.sha256", "manifest.json"} == {
            path.name for path in folder.iterdir()
        }

    @pytest.mark.parametrize("missing", ["begun.csv", "rows.csv", "files.sha256", "database.dump"])
    def test_a_dump_that_was_cut_short_is_not_finished(
        self, filled: Place, to: Path, missing: str
    ):
        begun(to)
        (to / "unfinished" / missing).unlink()

        with pytest.raises(Refused):
            back_up(filled.settings, to, only_files=True, keep=None)
        assert ["unfinished"] == [path.name for path in to.iterdir()]

    def test_what_cannot_be_backed_up_is_said(self, here: Place, to: Path, tmp_path: Path):
        nowhere = Place(tmp_path / "none/parley.db", here.files)
        with pytest.raises(Refused, match="There is no database"):
            backed_up(nowhere, to)
        sqlite3.connect(tmp_path / "bare.db").close()
        with pytest.raises(Refused, match="parley migrate"):
            backed_up(Place(tmp_path / "bare.db", here.files), to)
        (tmp_path / "no.db").write_text("a note, and no database" * 50)
        with pytest.raises(
            Refused,
            match=r"no\.db cannot be copied into .*unfinished.*: file is not a database\. Is there room",
        ):
            backed_up(Place(tmp_path / "no.db", here.files), to)
        with pytest.raises(Refused, match="make backup"):
            back_up(Settings(database_url="postgresql://ann@127.0.0.1:1/x"), to, only_files=False, keep=None)  # fmt: skip
        with pytest.raises(InvalidSettings, match="FILES_URL"):
            back_up(Settings(files_url="memory://"), to, only_files=False, keep=None)
        assert not [path for path in to.iterdir() if path.name != "unfinished"]


def to_made(to: Path) -> Path:
    to.mkdir()
    return to


def begun(to: Path, *lines: str) -> Unfinished:
    """As backup.sh leaves it."""
    unfinished = backup_folder.begin(to_made(to))
    for name, text in {
        "database.dump": "a dump",
        "begun.csv": f"2026-11-30T12:00:00Z,{SCHEMA_REVISION}\n",
        "rows.csv": "conversations,3\nfiles,3\n",
        "files.sha256": "".join(f"{line}\n" for line in lines),
    }.items():
        (unfinished.path / name).write_text(text)
    return unfinished


async def in_thread(act: Callable[[], Any]) -> Any:
    """What runs an event loop of its own."""
    return await asyncio.to_thread(act)


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def first_file(folder: Path) -> Path:
    """One that has bytes."""
    return next(path for path in (folder / "files").iterdir() if path.stat().st_size)


def edit(folder: Path, **said: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | said))


def lead_elsewhere(folder: Path) -> None:
    """As a backup would that was made up: its checksums are right."""
    listed = folder / "files.sha256"
    listed.write_text(f"{sha256(b'x').hexdigest()}  files/../../../../../../etc/passwd\n")
    digest = sha256(listed.read_bytes()).hexdigest()
    edit(folder, files={"count": 1, "total_bytes": 1, "list_sha256": digest})


def list_none(folder: Path) -> None:
    """As another backup would that was made up."""
    (folder / "files.sha256").write_bytes(b"")
    said = json.loads((folder / "manifest.json").read_text())["files"]
    edit(folder, files=said | {"list_sha256": sha256(b"").hexdigest()})


def link_to_a_copy(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json cannot be read"),
    "no JSON": (lambda f: (f / "manifest.json").write_text("{"), "no manifest"),
    "another format": (lambda f: edit(f, format=2), "no manifest that this release reads: format"),
    "a later schema": (lambda f: edit(f, revision="9999"), "later than this release's"),
    "other rows": (lambda f: edit(f, rows={"files": 1}), "other rows than"),
    "a dump of PostgreSQL": (
        lambda f: edit(f, database={"name": "database.dump", "size": 1, "sha256": "0" * 64}),
        "has database.dump",
    ),
    "a name that leads out": (
        lambda f: edit(f, database={"name": "../parley.db", "size": 1, "sha256": "0" * 64}),
        "no manifest that this release reads: database.name",
    ),
    "a changed database": (lambda f: change(f / "database.sqlite"), "database.sqlite differs"),
    "a linked database": (lambda f: link_to_a_copy(f / "database.sqlite"), "cannot be read"),
    "a changed list": (lambda f: change(f / "files.sha256"), "files.sha256 differs"),
    "a list that leads out": (lead_elsewhere, "a line that names no file"),
    "a list of none": (list_none, "has 0 files of 0 bytes, and the manifest says"),
    "a changed file": (lambda f: change(first_file(f)), "differs from files.sha256"),
    "a file less": (lambda f: first_file(f).unlink(), "differs from files.sha256"),
    "a linked file": (lambda f: link_to_a_copy(first_file(f)), "differs from files.sha256"),
    "linked files": (lambda f: link_to_a_copy(f / "files"), "files is not there"),
}


class TestRefused:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_what_is_not_as_it_was_made_changes_nothing(
        self, filled: Place, there: Place, to: Path, fault: str
    ):
        folder = backed_up(filled, to).folder
        make_faulty, says = FAULTS[fault]
        make_faulty(folder)

        with pytest.raises(Refused, match=says):
            restore(there.settings, folder, only_files=False)
        assert {} == there.bytes()
        assert not there.database.exists()

    def test_a_database_with_rows_is_left_as_it_is(self, filled: Place, to: Path):
        folder = backed_up(filled, to).folder
        before, files = filled.rows(), filled.bytes()

        with pytest.raises(Refused, match=r"is not empty, .* has rows"):
            restore(filled.settings, folder, only_files=False)
        assert (before, files) == (filled.rows(), filled.bytes())

    def test_a_database_that_is_in_use_is_left_as_it_is(
        self, filled: Place, there: Place, to: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(sqlite_copy, "_WAIT_SECONDS", 0.1)
        folder = backed_up(filled, to).folder
        upgrade(f"sqlite:///{there.database}")
        with closing(sqlite3.connect(there.database)) as serving:
            serving.execute("SELECT * FROM users").fetchall()

            with pytest.raises(Refused, match="in use: stop `parley serve`"):
                restore(there.settings, folder, only_files=False)
        assert {} == there.bytes()
        restore(there.settings, folder, only_files=False)
        assert filled.rows() == there.rows()

    def test_one_that_somebody_fills_while_files_are_put_back_is_left_as_it_is(
        self, filled: Place, there: Place, to: Path, monkeypatch: pytest.MonkeyPatch
    ):
        folder = backed_up(filled, to).folder
        upgrade(f"sqlite:///{there.database}")

        def fill(_: object) -> None:
            with closing(sqlite3.connect(there.database, isolation_level=None)) as somebody:
                somebody.execute(
                    "INSERT OR IGNORE INTO users (id, email, password_hash, created_at)"
                    " VALUES ('zoe', 'zoe@example.com', 'x', '2026-11-30')"
                )

        monkeypatch.setattr("parley.cli.backups._say_files", fill)

        with pytest.raises(Refused, match="is not empty, users has rows"):
            restore(there.settings, folder, only_files=False)
        assert ["zoe"] == [user_id for user_id, *_ in there.rows()["users"]]

    def test_one_that_loses_a_file_once_it_was_looked_at_changes_no_database(
        self, filled: Place, there: Place, to: Path, monkeypatch: pytest.MonkeyPatch
    ):
        folder = backed_up(filled, to).folder
        file = first_file(folder)
        monkeypatch.setattr(
            "parley.cli.backups._say_files", lambda _: file.unlink(missing_ok=True)
        )

        with pytest.raises(Refused, match="has changed meanwhile"):
            restore(there.settings, folder, only_files=False)
        assert not there.database.exists()

    def test_another_file_of_that_id_stays_and_the_same_one_does_no_harm(
        self, filled: Place, there: Place, to: Path
    ):
        folder = backed_up(filled, to).folder
        mine = there.files / first_file(folder).name
        there.files.mkdir(parents=True)
        mine.write_bytes(b"something else")

        with pytest.raises(Refused, match="FILES_URL has another file"):
            restore(there.settings, folder, only_files=False)
        assert b"something else" == mine.read_bytes()
        assert not there.database.exists()

        mine.write_bytes(first_file(folder).read_bytes())
        restore(there.settings, folder, only_files=False)
        assert filled.bytes() == there.bytes()

    def test_files_of_a_dump_are_put_back_and_the_dump_itself_is_not(
        self, filled: Place, there: Place, to: Path
    ):
        lines = [
            f"{sha256(content).hexdigest()}  files/{name}"
            for name, content in filled.bytes().items()
        ]
        folder = back_up(
            begun(to, *lines) and filled.settings, to, only_files=True, keep=None
        ).folder

        with pytest.raises(Refused, match=r"has database\.dump"):
            restore(there.settings, folder, only_files=False)
        assert {} == there.bytes()
        assert 2 == restore(there.settings, folder, only_files=True).files.count
        assert filled.bytes() == there.bytes()
        assert not there.database.exists()


class TestOlder:
    def test_it_is_brought_to_this_releases_schema_with_all_that_it_has(
        self, there: Place, to: Path, tmp_path: Path
    ):
        """Backed up by this release too, as one does before `parley migrate`."""
        older = Place(tmp_path / "older.db", tmp_path / "files")
        migrate_to("0005", older.database)
        with closing(sqlite3.connect(older.database, isolation_level=None)) as database:
            database.execute(
                "INSERT INTO conversations (user_id, id, title, metadata, length, created_at, updated_at)"
                " VALUES ('ann', hex(randomblob(16)), 'kept', '{}', 0, '2026-11-30', '2026-11-30')"
            )

        folder, manifest, _ = backed_up(older, to)
        restore(there.settings, folder, only_files=False)

        assert "0005" == manifest.revision
        assert "files" not in manifest.rows
        with closing(sqlite3.connect(there.database)) as database:
            assert [("kept",)] == database.execute("SELECT title FROM conversations").fetchall()
            assert [(SCHEMA_REVISION,)] == database.execute(
                "SELECT version_num FROM alembic_version"
            ).fetchall()
        backed_up(there, to.with_name("newest"))


def migrate_to(revision: str, database: Path) -> None:
    """No further: as the release left it that had this one."""
    config = Config(ALEMBIC_INI)
    config.attributes["url"] = f"sqlite:///{database}"
    command.upgrade(config, revision)
