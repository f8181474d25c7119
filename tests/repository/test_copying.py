"""The bytes of files, from one store to another: the same between all of them."""

from collections.abc import AsyncGenerator
from hashlib import sha256
from pathlib import Path

import pytest

from parley.core.errors import FileStoreUnavailable, StorageFull
from parley.core.ids import new_id
from parley.crud.objects.folder import FolderBlobs
from parley.crud.ports import Blobs
from parley.schemas.backups import KeptFile
from parley.services.backups import copying
from parley.services.backups.copying import AlreadyThere, Copied, Copying, Differs
from tests.stores import kept

CONTENTS = (b"", b"hello", b"much " * 300_000)


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncGenerator[FolderBlobs]:
    (tmp_path / "copies").mkdir()
    folder = FolderBlobs(tmp_path / "copies")
    yield folder
    await folder.close()


async def put(blobs: Blobs, content: bytes, *, said: bytes | None = None) -> KeptFile:
    file = KeptFile(new_id(), sha256(content if said is None else said).hexdigest())
    async with blobs.write(file.id) as writer:
        await writer.write(content)
    return file


def copier(source: Blobs, target: Blobs) -> Copying:
    return Copying(source, target, tell=lambda _: None)


class TestCopy:
    async def test_out_and_in_again_they_are_the_same(self, blobs: Blobs, folder: FolderBlobs):
        files = [await put(blobs, content) for content in CONTENTS]
        all_of_them = (Copied(3, sum(map(len, CONTENTS))), [])

        assert all_of_them == await copier(blobs, folder).copy(files)
        await blobs.delete([file.id for file in files])
        assert all_of_them[0] == await copier(folder, blobs).compare(files)
        assert all_of_them == await copier(folder, blobs).copy(files)

        for file, content in zip(files, CONTENTS, strict=True):
            pieces = [piece async for piece in blobs.read(file.id, 0, len(content))]
            assert content == b"".join(pieces)

    async def test_what_is_not_there_or_not_as_it_says_is_left_out(
        self, blobs: Blobs, folder: FolderBlobs
    ):
        whole = await put(blobs, b"hello")
        damaged = await put(blobs, b"hell!", said=b"hello")
        none = KeptFile(new_id(), whole.sha256)

        copied, missing = await copier(blobs, folder).copy([none, whole, damaged])

        assert (Copied(1, 5), [none, damaged]) == (copied, missing)
        assert {whole.id} == await kept(folder)

    async def test_there_may_be_more_than_a_page_and_somebody_hears(
        self, blobs: Blobs, folder: FolderBlobs, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(copying, "PAGE_FILES", 2)
        files = [await put(blobs, b"hello") for _ in range(5)]
        heard = list[tuple[int, int]]()

        def hear(copied: Copied) -> None:
            heard.append((copied.files, copied.total_bytes))

        await Copying(blobs, folder, tell=hear).copy(files)

        assert [(2, 10), (4, 20), (5, 25)] == heard
        assert {file.id for file in files} == await kept(folder)


class TestCompare:
    async def test_it_says_which_differs_and_changes_nothing(
        self, blobs: Blobs, folder: FolderBlobs
    ):
        file = await put(blobs, b"hello")
        damaged = await put(blobs, b"hell!", said=b"hello")
        none = KeptFile(new_id(), file.sha256)

        for faulty in (damaged, none):
            with pytest.raises(Differs, match=str(faulty.id)):
                await copier(blobs, folder).compare([file, faulty])
        assert set() == await kept(folder)

    async def test_what_is_there_already_is_another_only_if_it_differs(
        self, blobs: Blobs, folder: FolderBlobs
    ):
        file = await put(blobs, b"hello")
        assert (Copied(1, 5), []) == await copier(blobs, folder).copy([file])
        assert Copied(1, 5) == await copier(blobs, folder).compare([file])

        await folder.delete([file.id])
        async with folder.write(file.id) as writer:
            await writer.write(b"hullo")
        with pytest.raises(AlreadyThere, match=str(file.id)):
            await copier(blobs, folder).compare([file])


class TestFailure:
    @pytest.fixture
    def file_settings(self, tmp_path: Path) -> dict[str, str]:
        return {"files_url": f"file://{tmp_path}/files"}

    async def test_a_store_that_is_away_has_lost_nothing(
        self, blobs: Blobs, folder: FolderBlobs, tmp_path: Path
    ):
        """Whatever else goes on at once: it is the store's own error, with its reason."""
        files = [await put(blobs, b"hello") for _ in range(20)]
        (tmp_path / "files").rename(tmp_path / "elsewhere")

        with pytest.raises(FileStoreUnavailable) as raised:
            await copier(blobs, folder).copy(files)
        assert "There is no such folder" in str(raised.value.__cause__)

    async def test_a_target_that_takes_nothing_says_so_first(self, blobs: Blobs, tmp_path: Path):
        file = await put(blobs, b"hello")
        (tmp_path / "file").touch()
        target = FolderBlobs(tmp_path / "file/copies")

        with pytest.raises((StorageFull, FileStoreUnavailable)):
            await copier(blobs, target).compare([file])
        await target.close()
