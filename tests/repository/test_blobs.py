"""The bytes of files, in memory, in a folder and in moto's S3."""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from uuid import UUID

import pytest
from obstore.store import MemoryStore

from parley.core.errors import FileLost, FileStoreUnavailable, StorageFull
from parley.core.ids import new_id
from parley.core.settings import Settings
from parley.crud.objects import blobs as objects
from parley.crud.objects import writing
from parley.crud.objects.blobs import ObjectBlobs
from parley.crud.objects.folder import FolderBlobs
from parley.crud.ports import Blobs
from parley.wiring import open_blobs
from tests.stores import kept

# Of more than two parts on every store, and of no round number of pieces.
LARGE = os.urandom(11 * 1024**2 + 7)
PATIENCE_SECONDS = 10


async def put(blobs: Blobs, data: bytes, file_id: UUID | None = None) -> UUID:
    file_id = file_id or new_id()
    async with blobs.write(file_id) as writer:
        for start in range(0, len(data), 100_000):
            await writer.write(data[start : start + 100_000])
    return file_id


async def read(blobs: Blobs, file_id: UUID, start: int, end: int) -> bytes:
    return b"".join([piece async for piece in blobs.read(file_id, start, end)])


class TestWrite:
    @pytest.mark.parametrize("data", [b"", b"a", LARGE], ids=["empty", "small", "large"])
    async def test_what_was_written_is_read(self, blobs: Blobs, data: bytes):
        file_id = await put(blobs, data)

        assert data == await read(blobs, file_id, 0, len(data))
        assert len(data) == await blobs.size(file_id)

    @pytest.mark.parametrize("data", [b"a", LARGE], ids=["small", "large"])
    async def test_nothing_is_there_before_the_end(self, blobs: Blobs, data: bytes):
        file_id = new_id()

        async with blobs.write(file_id) as writer:
            await writer.write(data)
            assert None is await blobs.size(file_id)
            assert set() == await kept(blobs)

        assert {file_id} == await kept(blobs)

    @pytest.mark.parametrize("data", [b"a", LARGE], ids=["small", "large"])
    async def test_nothing_is_left_of_what_broke_off(
        self, blobs: Blobs, data: bytes, tmp_path: Path
    ):
        file_id = new_id()

        with pytest.raises(ZeroDivisionError):
            async with blobs.write(file_id) as writer:
                await writer.write(data)
                raise ZeroDivisionError

        assert None is await blobs.size(file_id)
        assert set() == await kept(blobs)
        assert [] == [*tmp_path.rglob("*#*")]

    @pytest.mark.parametrize("moment", ["writing", "finishing", "finished"])
    async def test_nothing_is_left_of_what_was_cancelled(
        self, blobs: Blobs, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        file_id, reached = new_id(), asyncio.Event()
        loop = asyncio.get_running_loop()
        name = "write" if moment == "writing" else "finish"
        whole = getattr(writing.Writing, name)

        def stalled(self: writing.Writing, *piece: bytes) -> None:
            if moment == "finished":
                whole(self, *piece)
            loop.call_soon_threadsafe(reached.set)
            if moment != "finished":
                whole(self, *piece)

        monkeypatch.setattr(writing.Writing, name, stalled)
        task = asyncio.create_task(put(blobs, LARGE, file_id))
        await reached.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        # It may have been quicker than who cancels.
        if task.cancelled():
            assert None is await blobs.size(file_id)
            assert [] == [*tmp_path.rglob("*#*")]
        else:
            assert len(LARGE) == await blobs.size(file_id)


class TestRead:
    @pytest.mark.parametrize(
        ("start", "end"), [(0, 1), (5, 5), (1_000_000, 7_000_001), (len(LARGE) - 1, len(LARGE))]
    )
    async def test_a_part_is_just_that(self, blobs: Blobs, start: int, end: int):
        file_id = await put(blobs, LARGE)

        assert LARGE[start:end] == await read(blobs, file_id, start, end)

    async def test_it_comes_in_pieces(self, blobs: Blobs):
        file_id = await put(blobs, LARGE)

        pieces = [len(piece) async for piece in blobs.read(file_id, 0, len(LARGE))]

        assert 2 * 1024**2 > max(pieces)

    @pytest.mark.parametrize(("start", "end"), [(0, 0), (0, 5)])
    async def test_what_is_not_there_is_not_found(self, blobs: Blobs, start: int, end: int):
        await put(blobs, b"another")

        with pytest.raises(FileLost):
            await read(blobs, new_id(), start, end)

    async def test_nor_is_what_has_lost_its_end(self, blobs: Blobs):
        file_id = await put(blobs, b"who")

        for start in (0, 3):
            with pytest.raises(FileLost):
                await read(blobs, file_id, start, 5)


class TestDelete:
    async def test_they_are_gone_and_the_others_are_not(self, blobs: Blobs):
        gone = [await put(blobs, b"gone") for _ in range(3)]
        stays = await put(blobs, b"kept")

        await blobs.delete([gone[0], new_id(), *gone[1:]])

        assert {stays} == await kept(blobs)

    async def test_once_more_is_no_error(self, blobs: Blobs):
        file_id = await put(blobs, b"gone")

        await blobs.delete([file_id])
        await blobs.delete([file_id])

    async def test_a_store_that_is_away_is_not_asked_for_each(
        self, blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch
    ):
        asked = 0

        def away(_: object) -> None:
            nonlocal asked
            asked += 1
            raise OSError

        monkeypatch.setattr(blobs, "remove", away)
        with pytest.raises(FileStoreUnavailable):
            await blobs.delete([new_id() for _ in range(100)])

        assert objects.DELETED_AT_ONCE >= asked

    async def test_one_that_cannot_be_deleted_keeps_none_of_its_neighbours(
        self, blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch
    ):
        stays, *gone = [await put(blobs, b"a") for _ in range(3)]
        remove = blobs.remove

        def remove_others(name: str) -> None:
            if name == str(stays):
                raise OSError
            remove(name)

        monkeypatch.setattr(blobs, "remove", remove_others)
        with pytest.raises(FileStoreUnavailable):
            await blobs.delete([stays, *gone])

        assert {stays} == await kept(blobs)


class TestPages:
    async def test_each_says_its_size(self, blobs: Blobs):
        expected = {await put(blobs, b"x" * size): size for size in (0, 1, 500)}

        found = [found async for page in blobs.pages() for found in page]

        assert expected == {blob.id: blob.size for blob in found}
        assert all(blob.modified_at.tzinfo for blob in found)


async def test_a_check_leaves_nothing(blobs: Blobs):
    await blobs.check()

    assert set() == await kept(blobs)


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "files"

    @pytest.fixture
    async def blobs(self, folder: Path) -> FolderBlobs:
        return FolderBlobs(folder)

    async def test_it_is_nobody_elses(self, blobs: Blobs, folder: Path):
        await put(blobs, b"a")

        assert 0o700 == folder.stat().st_mode & 0o777

    async def test_it_lasts_before_it_is_answered(
        self, blobs: Blobs, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        file_id, fsync = new_id(), os.fsync
        path, synced = folder / str(file_id), {}

        def record(descriptor: int) -> None:
            # How much of it was there by then, under its name.
            synced[os.fstat(descriptor).st_ino] = path.stat().st_size
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", record)
        await put(blobs, LARGE, file_id)

        assert {path.stat().st_ino: len(LARGE), folder.stat().st_ino: len(LARGE)} == synced

    @pytest.mark.parametrize("make", [Path.symlink_to, lambda path, _: os.mkfifo(path)])
    async def test_what_is_no_plain_file_is_not_there(
        self, blobs: Blobs, folder: Path, tmp_path: Path, make: Callable[[Path, Path], None]
    ):
        secret = tmp_path / "secret"
        secret.write_text("not yours")
        file_id = await put(blobs, b"a")
        (folder / str(file_id)).unlink()
        make(folder / str(file_id), secret)

        with pytest.raises(FileLost):
            await read(blobs, file_id, 0, 9)
        assert None is await blobs.size(file_id)

    @pytest.mark.parametrize("make", [Path.symlink_to, lambda path, _: os.mkfifo(path)])
    async def test_nor_is_what_has_become_such_behind_the_look_at_its_size(
        self, blobs: FolderBlobs, tmp_path: Path, folder: Path, make: Callable[[Path, Path], None]
    ):
        secret = tmp_path / "secret"
        secret.write_text("not yours")
        folder.mkdir()
        path = folder / str(new_id())
        make(path, secret)

        try:
            with pytest.raises(FileNotFoundError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await asyncio.to_thread(blobs.read_at, path.name, 0, 9)
        finally:
            # A thread that waits for somebody to write into the pipe has them.
            os.close(os.open(path, os.O_RDWR))

    async def test_what_loses_its_end_meanwhile_breaks_off_there(self, blobs: Blobs, folder: Path):
        file_id = await put(blobs, LARGE)
        pieces = blobs.read(file_id, 0, len(LARGE))
        first = await anext(pieces)
        os.truncate(folder / str(file_id), len(first) + 5)

        with pytest.raises(FileLost):
            await anext(pieces)

    async def test_a_link_is_replaced_and_not_followed(
        self, blobs: Blobs, folder: Path, tmp_path: Path
    ):
        precious = tmp_path / "precious"
        precious.write_text("mine")
        folder.mkdir()
        file_id = new_id()
        (folder / str(file_id)).symlink_to(precious)

        await put(blobs, b"theirs", file_id)

        assert "mine" == precious.read_text()
        assert b"theirs" == await read(blobs, file_id, 0, 6)

    async def test_what_is_cancelled_twice_is_gone_when_a_thread_is_free(
        self, blobs: FolderBlobs, folder: Path
    ):
        begun, gate = asyncio.Event(), threading.Event()

        async def write() -> None:
            async with blobs.write(new_id()) as writer:
                await writer.write(LARGE)
                begun.set()
                await asyncio.Event().wait()

        writing = asyncio.create_task(write())
        await begun.wait()
        threads = blobs._threads  # noqa: SLF001 - all of them are busy
        for _ in range(objects.THREADS):
            threads.submit(gate.wait)
        half_written = [*folder.iterdir()]
        for _ in range(2):
            writing.cancel()
            await asyncio.sleep(0)  # its turn
        await asyncio.wait([writing])
        gate.set()
        await asyncio.to_thread(threads.shutdown)

        assert 1 == len(half_written)
        assert [] == [*folder.iterdir()]

    async def test_what_a_process_left_half_written_goes(self, blobs: Blobs, folder: Path):
        whole = await put(blobs, b"kept")
        for number, age in ((1, 7200), (2, 60)):
            path = folder / f"{new_id()}#{number}"
            path.write_bytes(b"half")
            os.utime(path, (path.stat().st_mtime - age,) * 2)
        (folder / "notes#1").write_bytes(b"somebody's")

        assert 1 == await blobs.delete_unfinished(older_than_seconds=3600)

        assert {"#1", "#2", str(whole)[-2:]} == {path.name[-2:] for path in folder.iterdir()}
        assert 3 == len([*folder.iterdir()])

    async def test_it_says_how_much_room_there_is(self, blobs: Blobs):
        room = await blobs.room()

        assert room is not None
        assert 0 < room

    async def test_one_that_is_away_has_lost_nothing_and_a_look_does_not_make_it(
        self, blobs: FolderBlobs, folder: Path
    ):
        file_id = await put(blobs, b"a")
        folder.rename(folder.with_name("elsewhere"))

        with pytest.raises(FileStoreUnavailable):
            await read(blobs, file_id, 0, 1)
        with pytest.raises(FileStoreUnavailable):
            await blobs.size(file_id)
        with pytest.raises(FileStoreUnavailable):
            await blobs.delete([file_id])
        assert 0 < await blobs.room()
        assert set() == await kept(FolderBlobs(folder))
        assert 0 == await blobs.delete_unfinished(older_than_seconds=0)
        assert not folder.exists()

    async def test_what_ends_meanwhile_is_not_half_written(
        self, blobs: FolderBlobs, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        names = [f"{new_id()}#1" for _ in range(2)]
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"half")
        stat = Path.stat

        def end_before(path: Path, **options: bool) -> os.stat_result:
            if path.name == names[0]:
                path.unlink(missing_ok=True)
            return stat(path, **options)

        monkeypatch.setattr(Path, "stat", end_before)

        assert 1 == await blobs.delete_unfinished(older_than_seconds=-60)
        assert [] == [*folder.iterdir()]

    async def test_a_folder_that_cannot_be_made_takes_nothing(self, tmp_path: Path):
        (tmp_path / "file").write_text("in the way")
        blobs = FolderBlobs(tmp_path / "file" / "files")

        with pytest.raises(FileStoreUnavailable):
            await put(blobs, b"a")

    @pytest.mark.parametrize("error", [28, 30, 13], ids=["full", "read-only", "forbidden"])
    async def test_a_disk_that_takes_no_more_says_so(
        self, blobs: Blobs, folder: Path, error: int, monkeypatch: pytest.MonkeyPatch
    ):
        def refuse(*_: object) -> None:
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(FolderBlobs, "settle", refuse)
        file_id = new_id()

        with pytest.raises(StorageFull):
            await put(blobs, b"a", file_id)
        assert None is await blobs.size(file_id)


async def test_a_store_that_is_away_is_unavailable():
    settings = Settings(files_url="s3://nowhere", s3_endpoint="http://127.0.0.1:1")
    async with AsyncExitStack() as closing:
        blobs = open_blobs(settings, closing)
        with pytest.raises(FileStoreUnavailable):
            await put(blobs, b"a")
        with pytest.raises(FileStoreUnavailable):
            await blobs.size(new_id())


async def test_a_store_is_opened_once_however_many_write_first():
    """Of two in memory, one would be gone with all that is in it."""
    barrier, opened = threading.Barrier(2), []

    def open_store() -> MemoryStore:
        opened.append(MemoryStore())
        with suppress(threading.BrokenBarrierError):
            barrier.wait(0.2)  # for another, if there is one
        return opened[-1]

    blobs = ObjectBlobs(open_store)
    await asyncio.gather(*(put(blobs, b"a") for _ in range(5)))

    assert 1 == len(opened)
    assert 5 == len(await kept(blobs))


async def test_a_bucket_that_is_not_there_is_no_file_that_is_not_found(s3_url: str):
    settings = Settings(
        files_url="s3://nobodys",
        s3_endpoint=s3_url,
        s3_access_key_id="parley",
        s3_secret_access_key="of the tests",
    )
    async with AsyncExitStack() as closing:
        blobs = open_blobs(settings, closing)
        for data in (b"a", LARGE):
            with pytest.raises(FileStoreUnavailable):
                await put(blobs, data)
        with pytest.raises(FileStoreUnavailable):
            await read(blobs, new_id(), 0, 1)
        with pytest.raises(FileStoreUnavailable):
            await blobs.size(new_id())
