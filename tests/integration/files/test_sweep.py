"""Bytes that are nobody's, and files that lost theirs, as the database's owner sees them."""

import os
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from parley.cli.files import NotSwept, lines_of, sweep
from parley.core.database import create_engine
from parley.core.errors import DatabaseUnavailable
from parley.core.ids import new_id
from parley.core.settings import InvalidSettings, Settings
from parley.crud.objects import blobs as objects
from parley.crud.ports import Blobs, Store
from parley.crud.sql.ledger import LedgerClosed, SqlLedger
from parley.schemas.files import FileMetadata
from parley.services.files import sweep as sweeping
from parley.services.files.sweep import NothingKnown, Sweep, Swept
from tests.databases import DatabaseUrls
from tests.factories import make_file
from tests.stores import TIMEOUT_SECONDS, kept


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def owner_url(backend: str, request: pytest.FixtureRequest) -> str:
    if backend == "sqlite":
        return request.getfixturevalue("sqlite_url")
    return request.getfixturevalue("postgres").owner


@pytest.fixture
async def ledger(owner_url: str) -> AsyncGenerator[SqlLedger]:
    engine = create_engine(owner_url, timeout_seconds=TIMEOUT_SECONDS)
    ledger = SqlLedger(engine, timeout_seconds=TIMEOUT_SECONDS)
    yield ledger
    await ledger.close()


@pytest.fixture(autouse=True)
def all_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two days have passed; a test of that says otherwise."""
    monkeypatch.setattr(sweeping, "GRACE_SECONDS", -60)


async def put(blobs: Blobs, content: bytes = b"hello", file_id: UUID | None = None) -> UUID:
    file_id = file_id or new_id()
    async with blobs.write(file_id) as writer:
        await writer.write(content)
    return file_id


async def make_whole(store: Store, blobs: Blobs, user_id: str) -> FileMetadata:
    file = await make_file(store, user_id)
    await put(blobs, file_id=file.id)
    return file


async def swept(ledger: SqlLedger, blobs: Blobs, **options: bool) -> Swept:
    return await Sweep(ledger, blobs, tell=lambda _: None, **options).run()


class TestOrphans:
    async def test_bytes_that_are_nobodys_go_and_nobody_elses(
        self, store: Store, ledger: SqlLedger, blobs: Blobs, alice: str, bob: str
    ):
        whole = {(await make_whole(store, blobs, user_id)).id for user_id in (alice, bob)}
        for _ in range(3):
            await put(blobs)

        found = await swept(ledger, blobs)

        assert (5, 3, 15) == (found.blobs, found.orphans, found.orphan_bytes)
        assert (2, []) == (found.files, found.lost)
        assert whole == await kept(blobs)

    async def test_looking_takes_nothing_away(
        self, store: Store, ledger: SqlLedger, blobs: Blobs, alice: str
    ):
        await make_whole(store, blobs, alice)
        orphan = await put(blobs)

        found = await swept(ledger, blobs, takes_away=False)

        assert 1 == found.orphans
        assert orphan in await kept(blobs)

    async def test_those_that_have_just_come_stay(
        self,
        store: Store,
        ledger: SqlLedger,
        blobs: Blobs,
        alice: str,
        monkeypatch: pytest.MonkeyPatch,
    ):
        """What is known of them may be on its way."""
        await make_whole(store, blobs, alice)
        orphan = await put(blobs)
        monkeypatch.setattr(sweeping, "GRACE_SECONDS", 3600)

        found = await swept(ledger, blobs)

        assert (2, 0) == (found.blobs, found.orphans)
        assert orphan in await kept(blobs)

    async def test_where_no_file_is_known_at_all_it_must_be_said_that_all_may_go(
        self, ledger: SqlLedger, blobs: Blobs
    ):
        await put(blobs)

        with pytest.raises(NothingKnown):
            await swept(ledger, blobs)
        assert 1 == len(await kept(blobs))

        assert 1 == (await swept(ledger, blobs, takes_all=True)).orphans
        assert set() == await kept(blobs)

    async def test_nor_are_they_taken_where_the_files_that_are_known_are_elsewhere(
        self, store: Store, ledger: SqlLedger, blobs: Blobs, alice: str
    ):
        """As with the URL of another database, which has files of its own."""
        await make_file(store, alice)
        await put(blobs)

        with pytest.raises(NothingKnown):
            await swept(ledger, blobs)
        assert 1 == len(await kept(blobs))
        assert 1 == (await swept(ledger, blobs, takes_away=False)).orphans

    async def test_so_many_are_enough_to_know(
        self, ledger: SqlLedger, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
    ):
        """They wait in memory."""
        monkeypatch.setattr(objects, "PAGE_BLOBS", 1)
        monkeypatch.setattr(sweeping, "WAITING_MAX", 2)
        for _ in range(5):
            await put(blobs)
        looked_at = []
        sweep = Sweep(ledger, blobs, tell=lambda swept: looked_at.append(swept.blobs))

        with pytest.raises(NothingKnown):
            await sweep.run()
        assert [1, 2] == looked_at

    async def test_there_may_be_more_than_a_page_of_each(
        self,
        store: Store,
        ledger: SqlLedger,
        blobs: Blobs,
        alice: str,
        monkeypatch: pytest.MonkeyPatch,
    ):
        monkeypatch.setattr(sweeping, "PAGE_FILES", 2)
        monkeypatch.setattr(objects, "PAGE_BLOBS", 2)
        orphans = {await put(blobs) for _ in range(5)}
        whole = {(await make_whole(store, blobs, alice)).id for _ in range(5)}

        found = await swept(ledger, blobs)

        assert (10, 5, 5, []) == (found.blobs, found.orphans, found.files, found.lost)
        assert whole == await kept(blobs)
        assert not whole & orphans


class TestLost:
    async def test_a_file_without_its_bytes_is_named_and_stays(
        self, store: Store, ledger: SqlLedger, blobs: Blobs, alice: str
    ):
        await make_whole(store, blobs, alice)
        gone, cut = [await make_file(store, alice) for _ in range(2)]
        await put(blobs, b"hell", cut.id)

        found = await swept(ledger, blobs)

        assert [gone.id, cut.id] == found.lost
        async with store.begin(alice, read_only=True) as tx:
            assert gone == await tx.files.get(gone.id)

    async def test_one_that_is_deleted_meanwhile_has_lost_nothing(
        self, store: Store, ledger: SqlLedger, blobs: Blobs, alice: str, monkeypatch
    ):
        await make_whole(store, blobs, alice)
        file = await make_file(store, alice)

        async def deleted_behind(file_id: UUID) -> int | None:
            if file_id == file.id:
                async with store.begin(alice) as tx:
                    await tx.files.delete(file_id)
            return None

        monkeypatch.setattr(blobs, "size", deleted_behind)

        assert file.id not in (await swept(ledger, blobs)).lost


class TestPowers:
    @pytest.fixture
    def backend(self) -> str:
        return "postgres"

    async def test_a_role_that_sees_no_users_files_sweeps_nothing(
        self, store: Store, blobs: Blobs, postgres: DatabaseUrls, alice: str
    ):
        file = await make_whole(store, blobs, alice)
        engine = create_engine(postgres.api, timeout_seconds=TIMEOUT_SECONDS)
        ledger = SqlLedger(engine, timeout_seconds=TIMEOUT_SECONDS)

        for options in ({}, {"takes_all": True}):
            with pytest.raises(LedgerClosed):
                await swept(ledger, blobs, **options)
        await ledger.close()

        assert {file.id} == await kept(blobs)

    async def test_the_apis_role_is_told_whose_url_it_takes(
        self, postgres: DatabaseUrls, tmp_path: Path
    ):
        settings = Settings(
            database_migration_url=postgres.api,
            files_url=f"file://{tmp_path}/files",
            database_timeout_seconds=TIMEOUT_SECONDS,
        )

        with pytest.raises(NotSwept, match="DATABASE_MIGRATION_URL"):
            await sweep(settings, takes_away=True, takes_all=True)


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "files"

    @pytest.fixture
    def file_settings(self, folder: Path) -> dict[str, str]:
        return {"files_url": f"file://{folder}"}

    async def test_half_written_ones_go_too(
        self,
        store: Store,
        blobs: Blobs,
        folder: Path,
        owner_url: str,
        alice: str,
        monkeypatch: pytest.MonkeyPatch,
    ):
        monkeypatch.setattr(sweeping, "GRACE_SECONDS", 3600)
        file = await make_whole(store, blobs, alice)
        long_ago = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
        half = folder / f"{new_id()}#1"
        for path in (half, folder / str(await put(blobs))):
            path.touch()
            os.utime(path, (long_ago, long_ago))
        settings = Settings(
            database_url=owner_url,
            files_url=f"file://{folder}",
            database_timeout_seconds=TIMEOUT_SECONDS,
        )

        looked = await sweep(settings, takes_away=False, takes_all=False)
        assert 3 == len([*folder.iterdir()])
        done = await sweep(settings, takes_away=True, takes_all=False)

        assert (1, 0) == (looked.orphans, looked.unfinished)
        assert (1, 1, []) == (done.orphans, done.unfinished, done.lost)
        assert [str(file.id)] == [path.name for path in folder.iterdir()]

    async def test_an_empty_database_is_asked_about_where_something_would_go(
        self, blobs: Blobs, owner_url: str, folder: Path
    ):
        settings = Settings(
            database_url=owner_url,
            files_url=f"file://{folder}",
            database_timeout_seconds=TIMEOUT_SECONDS,
        )

        assert 0 == (await sweep(settings, takes_away=True, takes_all=False)).orphans
        await put(blobs)
        with pytest.raises(NotSwept, match="--yes"):
            await sweep(settings, takes_away=True, takes_all=False)

    async def test_a_look_into_a_folder_that_is_not_there_makes_none(
        self, store: Store, owner_url: str, folder: Path, alice: str
    ):
        settings = Settings(
            database_url=owner_url,
            files_url=f"file://{folder}",
            database_timeout_seconds=TIMEOUT_SECONDS,
        )

        assert 0 == (await sweep(settings, takes_away=False, takes_all=False)).files
        await make_file(store, alice)
        with pytest.raises(NotSwept, match="There is no such folder"):
            await sweep(settings, takes_away=False, takes_all=False)
        assert not folder.exists()

    async def test_what_cannot_be_swept_is_said(self, folder: Path):
        with pytest.raises(InvalidSettings, match="FILES_URL"):
            await sweep(Settings(files_url="memory://"), takes_away=True, takes_all=False)
        nowhere = Settings(
            database_url="postgresql://ann@127.0.0.1:1/x", files_url=f"file://{folder}"
        )
        with pytest.raises(DatabaseUnavailable):
            await sweep(nowhere, takes_away=True, takes_all=False)


def test_a_person_reads_it_in_lines():
    lost = new_id()
    done = Swept(has_taken_away=True, blobs=7, files=5, orphans=2, orphan_bytes=30, lost=[lost])

    lines = lines_of(done)

    assert "  2 of them nobody's, 30 bytes: removed; 0 half written ones too" in lines
    assert f"    {lost}" == lines[-1]
    assert "7 objects looked at" == lines[0]


def test_where_there_is_not_one_object_a_person_is_asked():
    lines = lines_of(Swept(has_taken_away=False, files=1, lost=[new_id()]))

    assert "0 objects looked at: is FILES_URL the right one?" == lines[0]
