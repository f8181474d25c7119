"""What becomes of a file where something breaks: all of it, or nothing."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from httpx import AsyncClient

from parley.core.errors import (
    AccountGone,
    AppError,
    DatabaseUnavailable,
    FileNotFound,
    FileStoreUnavailable,
    MalformedUpload,
    Overloaded,
    StorageFull,
)
from parley.core.ids import new_id
from parley.core.security.cursors import Cursors
from parley.crud.ports import Blobs, Store
from parley.schemas.files import FileMetadata
from parley.services.files import service
from parley.services.files.erasing import Eraser
from parley.services.files.service import FileService, Upload
from parley.services.files.types import FileTypes
from tests.factories import upload_of
from tests.stores import Around, kept


@pytest.fixture
def around(store: Store) -> Around:
    return Around(store)


@pytest.fixture
def files(around: Around, blobs: Blobs) -> FileService:
    return FileService(
        around,
        blobs,
        Eraser(blobs),
        FileTypes(["text/*"]),
        Cursors(b"k" * 32),
        max_bytes=10_000_000,
        quota_bytes=10_000_000,
    )


async def listed(files: FileService, user_id: str) -> list[FileMetadata]:
    return (await files.newest(user_id, 100, None)).items


class TestMetadata:
    @pytest.mark.parametrize("error", [DatabaseUnavailable, Overloaded])
    async def test_one_whose_outcome_is_unknown_keeps_its_bytes(
        self, files: FileService, around: Around, blobs: Blobs, alice: str, error: type[AppError]
    ):
        """The commit may still be on its way: a file must not lose its bytes to that."""

        async def away(*_: object) -> None:
            raise error

        around.before = away
        with pytest.raises(error):
            await files.upload(alice, upload_of("hello"))

        assert 1 == len(await kept(blobs))

    @pytest.mark.parametrize("error", [DatabaseUnavailable, Overloaded])
    async def test_one_that_was_committed_all_the_same_is_answered(
        self, files: FileService, around: Around, blobs: Blobs, alice: str, error: type[AppError]
    ):
        async def lost(_: str, read_only: bool) -> None:  # noqa: FBT001 - as `begin` has it
            if not read_only:
                raise error

        around.behind = lost
        file = await files.upload(alice, upload_of("hello"))

        assert [file] == await listed(files, alice)
        assert {file.id} == await kept(blobs)

    async def test_one_that_is_refused_leaves_nothing(self, files: FileService, blobs: Blobs):
        with pytest.raises(AccountGone):
            await files.upload(str(new_id()), upload_of("hello"))

        assert set() == await kept(blobs)

    async def test_of_many_at_once_as_many_are_kept_as_there_is_room_for(
        self, files: FileService, blobs: Blobs, alice: str
    ):
        outcomes = await asyncio.gather(
            *(files.upload(alice, upload_of("x" * 3_000_000)) for _ in range(6)),
            return_exceptions=True,
        )

        whole = [outcome for outcome in outcomes if isinstance(outcome, FileMetadata)]
        assert 3 == len(whole)
        assert {file.id for file in whole} == await kept(blobs)


class TestBytes:
    async def test_a_client_that_leaves_leaves_nothing(
        self, files: FileService, blobs: Blobs, alice: str
    ):
        async def pieces() -> AsyncGenerator[bytes]:
            yield b"x" * 3_000_000
            raise MalformedUpload

        with pytest.raises(MalformedUpload):
            await files.upload(alice, Upload("a", "text/plain", pieces()))

        assert (set(), []) == (await kept(blobs), await listed(files, alice))

    async def test_nor_does_a_request_that_is_cancelled(
        self, files: FileService, blobs: Blobs, alice: str
    ):
        begun = asyncio.Event()

        async def pieces() -> AsyncGenerator[bytes]:
            yield b"x" * 3_000_000
            begun.set()
            await asyncio.Event().wait()

        uploading = asyncio.create_task(files.upload(alice, Upload("a", "text/plain", pieces())))
        await begun.wait()
        uploading.cancel()
        await asyncio.wait([uploading])

        assert (set(), []) == (await kept(blobs), await listed(files, alice))

    async def test_a_disk_that_fills_up_meanwhile_takes_no_more_of_any(
        self, files: FileService, blobs: Blobs, alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        """However little each of them has brought: the disk has all of it."""
        filling, full = asyncio.Event(), asyncio.Event()

        async def room() -> int:
            return service.RESERVE_BYTES - filling.is_set()

        async def first() -> AsyncGenerator[bytes]:
            yield b"x" * 300_000
            filling.set()
            await full.wait()
            yield b"x" * 300_000

        async def second() -> AsyncGenerator[bytes]:
            await filling.wait()
            for _ in range(6):
                yield b"x" * 300_000

        monkeypatch.setattr(blobs, "room", room)
        monkeypatch.setattr(service, "LOOK_BYTES", 1_000_000)
        uploading = asyncio.create_task(files.upload(alice, Upload("a", "text/plain", first())))
        with pytest.raises(StorageFull):
            await files.upload(alice, Upload("b", "text/plain", second()))
        full.set()
        with pytest.raises(StorageFull):
            await uploading

        assert (set(), []) == (await kept(blobs), await listed(files, alice))

    async def test_as_many_come_at_once_as_there_is_memory_for(
        self, files: FileService, alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(service, "UPLOADS_AT_ONCE", 1)
        begun, gate = asyncio.Event(), asyncio.Event()

        async def pieces() -> AsyncGenerator[bytes]:
            yield b"hello"
            begun.set()
            await gate.wait()

        uploading = asyncio.create_task(files.upload(alice, Upload("a", "text/plain", pieces())))
        await begun.wait()
        with pytest.raises(Overloaded):
            await files.upload(alice, upload_of("hello"))
        gate.set()
        await uploading

        await files.upload(alice, upload_of("hello"))

    async def test_as_many_go_at_once_as_there_is_memory_for(
        self, files: FileService, alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(service, "DOWNLOADS_AT_ONCE", 1)
        file = await files.upload(alice, upload_of("hello"))

        async with aclosing(files.read(file, 0, file.size)) as pieces:
            await anext(pieces)
            with pytest.raises(Overloaded):
                await anext(files.read(file, 0, file.size))

        assert b"hello" == await anext(files.read(file, 0, file.size))


class TestErasing:
    async def test_bytes_that_stay_behind_are_no_failure_of_who_deleted_their_file(
        self, files: FileService, blobs: Blobs, alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        file = await files.upload(alice, upload_of("hello"))

        async def away(_: object) -> None:
            raise FileStoreUnavailable

        monkeypatch.setattr(blobs, "delete", away)
        await files.delete(alice, file.id)

        with pytest.raises(FileNotFound):
            await files.get(alice, file.id)
        assert {file.id} == await kept(blobs)


class TestAnswers:
    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (StorageFull, 507, "storage-full"),
            (FileStoreUnavailable, 503, "file-store-unavailable"),
        ],
    )
    async def test_a_file_store_that_takes_nothing_says_why_and_chat_goes_on(
        self,
        client: AsyncClient,
        app_blobs,
        alice,
        bearer,
        upload,
        say,
        monkeypatch,
        error,
        status,
        code,
    ):
        def broken(*_: object) -> None:
            raise error

        monkeypatch.setattr(app_blobs, "open_to_write", broken)
        answer = await upload()
        listed = await client.get("/api/v1/files", headers=bearer(alice))

        assert (status, code) == (answer.status_code, answer.json()["code"])
        assert [] == listed.json()["items"]
        assert 200 == (await say()).status_code

    async def test_a_disk_that_is_nearly_full_takes_no_more(
        self, app_blobs, upload, monkeypatch: pytest.MonkeyPatch
    ):
        async def room() -> int:
            return service.RESERVE_BYTES

        monkeypatch.setattr(app_blobs, "room", room)
        answer = await upload(b"x" * 100_000)

        assert (507, "storage-full") == (answer.status_code, answer.json()["code"])

    async def test_nothing_is_begun_where_none_can_be_had(
        self,
        client: AsyncClient,
        app_blobs,
        alice,
        bearer,
        upload,
        monkeypatch: pytest.MonkeyPatch,
    ):
        file_id = (await upload()).json()["id"]

        async def read(*_: object) -> AsyncGenerator[bytes]:
            raise FileStoreUnavailable
            yield b""

        monkeypatch.setattr(app_blobs, "read", read)
        answer = await client.get(f"/api/v1/files/{file_id}/content", headers=bearer(alice))

        assert (503, "file-store-unavailable") == (answer.status_code, answer.json()["code"])
        assert "Retry-After" in answer.headers
