"""What a model is shown of files."""

from contextlib import aclosing
from uuid import UUID

import pytest
from obstore.store import MemoryStore

from parley.core.errors import FileStoreUnavailable
from parley.crud.objects.blobs import ObjectBlobs
from parley.schemas.files import FileMetadata
from parley.services.files import attachments
from parley.services.files.attachments import AttachmentReader
from parley.services.responders.base import PromptAttachment, PromptMessage
from tests.factories import metadata_of
from tests.responders import Gated, Scripted

TEXT = "Grüße 🙂\n"


@pytest.fixture
def blobs() -> ObjectBlobs:
    return ObjectBlobs(MemoryStore)


async def put(blobs: ObjectBlobs, content: bytes, content_type: str) -> FileMetadata:
    file = metadata_of(content_type=content_type, size=len(content))
    async with blobs.write(file.id) as writer:
        await writer.write(content)
    return file


def user(*files: FileMetadata) -> PromptMessage:
    return PromptMessage("user", "look", tuple(map(PromptAttachment, files)))


async def shown(
    blobs: ObjectBlobs, *prompt: PromptMessage, accepts_images: bool = False
) -> list[PromptAttachment]:
    model = Scripted("ok")
    reader = AttachmentReader(blobs, model, accepts_images=accepts_images)
    async with aclosing(reader.stream(prompt, "stub")) as pieces:
        assert ["ok"] == [piece async for piece in pieces]
    return [attachment for message in model.prompts[0] for attachment in message.attachments]


class TestText:
    @pytest.mark.parametrize("content_type", ["text/plain", "text/markdown", "application/json"])
    async def test_it_is_shown_whole(self, blobs: ObjectBlobs, content_type: str):
        file = await put(blobs, TEXT.encode(), content_type)

        assert [PromptAttachment(file, text=TEXT)] == await shown(blobs, user(file))

    @pytest.mark.parametrize("room", [1, 5, 7, 8])
    async def test_as_far_as_there_is_room(
        self, blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch, room: int
    ):
        monkeypatch.setattr(attachments, "TEXT_CHARACTERS_MAX", room)
        file = await put(blobs, TEXT.encode(), "text/plain")

        (told,) = await shown(blobs, user(file))

        assert (TEXT[:room], room < len(TEXT)) == (told.text, told.is_cut)

    async def test_the_newest_have_the_room(
        self, blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(attachments, "TEXT_CHARACTERS_MAX", 7)
        old, new, newest = [await put(blobs, b"abcd", "text/plain") for _ in range(3)]

        told = await shown(
            blobs, user(old), user(new), PromptMessage("assistant", ""), user(newest)
        )

        assert [(None, False), ("abc", True), ("abcd", False)] == [
            (attachment.text, attachment.is_cut) for attachment in told
        ]


class TestImages:
    async def test_it_is_shown_to_a_model_that_takes_such(self, blobs: ObjectBlobs):
        file = await put(blobs, b"pixels", "image/png")

        assert [PromptAttachment(file, image=b"pixels")] == await shown(
            blobs, user(file), accepts_images=True
        )
        assert [PromptAttachment(file)] == await shown(blobs, user(file))

    async def test_as_many_as_there_is_room_for(
        self, blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(attachments, "IMAGES_BYTES_MAX", 10)
        old, new, newest = [await put(blobs, b"pixel", "image/png") for _ in range(3)]

        told = await shown(blobs, user(old), user(new), user(newest), accepts_images=True)

        assert [None, b"pixel", b"pixel"] == [attachment.image for attachment in told]

    async def test_one_too_large_leaves_the_room_to_others(
        self, blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(attachments, "IMAGES_BYTES_MAX", 10)
        small = await put(blobs, b"pixel", "image/png")
        large = await put(blobs, b"pixels pixels", "image/png")

        told = await shown(blobs, user(small), user(large), accepts_images=True)

        assert [b"pixel", None] == [attachment.image for attachment in told]


class TestAllElse:
    @pytest.mark.parametrize(
        "content_type", ["application/pdf", "application/octet-stream", "image/bmp"]
    )
    async def test_it_is_named_and_not_read(self, content_type: str):
        class Unreadable(ObjectBlobs):
            def read(self, file_id: UUID, start: int, end: int):
                raise AssertionError

        file = metadata_of(content_type=content_type)

        told = await shown(Unreadable(MemoryStore), user(file), accepts_images=True)

        assert [PromptAttachment(file)] == told

    @pytest.mark.parametrize("content_type", ["text/plain", "image/png"])
    async def test_what_is_lost_is_named(self, blobs: ObjectBlobs, content_type: str):
        file = metadata_of(content_type=content_type)

        assert [PromptAttachment(file)] == await shown(blobs, user(file), accepts_images=True)

    async def test_so_is_what_cannot_be_had_now(self):
        class Away(ObjectBlobs):
            async def read(self, file_id: UUID, start: int, end: int):
                yield b"a"
                raise FileStoreUnavailable

        file = metadata_of(content_type="text/plain")

        assert [PromptAttachment(file)] == await shown(Away(MemoryStore), user(file))


async def test_a_prompt_without_files_goes_on_as_it_is(blobs: ObjectBlobs):
    model = Scripted("ok")
    prompt = [PromptMessage("user", "hello")]

    stream = AttachmentReader(blobs, model, accepts_images=True).stream(prompt, "stub")

    assert ["ok"] == [piece async for piece in stream]
    assert [prompt] == model.prompts


async def test_who_stops_listening_stops_the_model(blobs: ObjectBlobs):
    model, file = Gated("first"), await put(blobs, b"a", "text/plain")
    reader = AttachmentReader(blobs, model, accepts_images=True)

    async with aclosing(reader.stream([user(file)], "stub")) as pieces:
        assert "first" == await anext(pieces)

    assert model.was_closed
