"""What a model is shown of files."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from uuid import UUID

import pytest
from obstore.store import MemoryStore

from parley.core.errors import FileStoreUnavailable, Overloaded
from parley.crud.objects.blobs import ObjectBlobs
from parley.schemas.files import FileMetadata
from parley.services.files import attachments
from parley.services.files.attachments import AttachmentReader
from parley.services.responders.base import Fault, PromptAttachment, PromptMessage
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
    async with aclosing(reader.stream("alice", prompt, "stub")) as pieces:
        assert "ok" == "".join([piece async for piece in pieces])
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


class Slow(ObjectBlobs):
    """Says nothing, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__(MemoryStore)
        self.asked = 0

    async def read(self, file_id: UUID, start: int, end: int):
        self.asked += 1
        await asyncio.Event().wait()
        yield b""


class TestBounds:
    async def test_one_that_says_nothing_is_not_waited_for_for_long(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(attachments, "READ_SECONDS", 0.05)
        blobs, files = Slow(), [metadata_of() for _ in range(5)]

        assert [PromptAttachment(file) for file in files] == await shown(blobs, user(*files))
        assert 1 == blobs.asked

    async def test_nor_is_one_that_is_away_asked_again(self):
        class Away(ObjectBlobs):
            asked = 0

            async def read(self, file_id: UUID, start: int, end: int):
                self.asked += 1
                raise FileStoreUnavailable
                yield b""

        blobs = Away(MemoryStore)
        await shown(blobs, user(metadata_of(), metadata_of()))

        assert 1 == blobs.asked

    async def test_one_that_is_lost_hides_no_older_one(self, blobs: ObjectBlobs):
        older, lost = await put(blobs, b"a", "text/plain"), metadata_of()

        told = await shown(blobs, user(older), user(lost))

        assert [PromptAttachment(older, text="a"), PromptAttachment(lost)] == told

    async def test_so_many_are_read_and_no_more(
        self, blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(attachments, "FILES_MAX", 2)
        files = [await put(blobs, b"a", "text/plain") for _ in range(3)]

        told = await shown(blobs, *(user(file) for file in files))

        assert [None, "a", "a"] == [attachment.text for attachment in told]

    async def test_a_byte_order_mark_is_no_text(self, blobs: ObjectBlobs):
        file = await put(blobs, b"\xef\xbb\xbfa;b", "text/csv")

        assert [PromptAttachment(file, text="a;b")] == await shown(blobs, user(file))


class TestMemory:
    """Images of 6 bytes: there is room for 2 of a user's, and for 3 of all users'."""

    @pytest.fixture(autouse=True)
    def room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attachments, "IMAGES_BYTES_PER_USER", 12)
        monkeypatch.setattr(attachments, "IMAGES_BYTES_AT_ONCE", 18)

    @pytest.fixture
    async def image(self, blobs: ObjectBlobs) -> FileMetadata:
        return await put(blobs, b"pixels", "image/png")

    @pytest.fixture
    def model(self) -> Gated:
        return Gated()

    @pytest.fixture
    async def ask(self, blobs: ObjectBlobs, model: Gated):
        """Until the model is asked, or there was no room. It answers when the test ends."""
        reader = AttachmentReader(blobs, model, accepts_images=True)
        async with AsyncExitStack() as asked:

            async def ask(user_id: str, *prompt: PromptMessage) -> AsyncGenerator[object]:
                pieces = reader.stream(user_id, prompt, "stub")
                await asked.enter_async_context(aclosing(pieces))
                await anext(pieces)
                return pieces

            yield ask

    async def test_one_user_has_no_more_than_a_share(self, ask, image: FileMetadata):
        for _ in range(2):
            await ask("alice", user(image))

        with pytest.raises(Fault) as refused:
            await ask("alice", user(image))
        await ask("bob", user(image))
        assert isinstance(refused.value.error, Overloaded)

    async def test_all_have_no_more_than_there_is(self, ask, image: FileMetadata):
        for user_id in ("alice", "bob", "carol"):
            await ask(user_id, user(image))

        with pytest.raises(Fault):
            await ask("dave", user(image))

    async def test_who_brings_none_is_answered(self, ask, image, model: Gated, blobs: ObjectBlobs):
        text = await put(blobs, b"words", "text/plain")
        for user_id in ("alice", "bob", "carol"):
            await ask(user_id, user(image))

        pieces = await ask("dave", user(image), user(text))
        model.gate.set()

        assert "re: look" == await anext(pieces)
        (old,), (new,) = (message.attachments for message in model.prompts[-1])
        assert (None, "words") == (old.image, new.text)

    async def test_one_that_is_not_shown_takes_none(self, ask, image, blobs: ObjectBlobs):
        large = await put(blobs, b"x" * (attachments.IMAGES_BYTES_MAX + 1), "image/png")
        for _ in range(5):
            await ask("alice", user(large))

        await ask("alice", user(image))

    async def test_nor_does_one_that_cannot_be_read(self, ask, image: FileMetadata):
        lost = [metadata_of(content_type="image/png", size=6) for _ in range(2)]
        await ask("alice", user(*lost))

        for _ in range(2):
            await ask("alice", user(image))

    async def test_what_is_answered_makes_room(self, ask, image: FileMetadata):
        for _ in range(5):
            pieces = await ask("alice", user(image))
            await pieces.aclose()


async def test_a_prompt_without_files_goes_on_as_it_is(blobs: ObjectBlobs):
    model = Scripted("ok")
    prompt = [PromptMessage("user", "hello")]

    stream = AttachmentReader(blobs, model, accepts_images=True).stream("alice", prompt, "stub")

    assert ["ok"] == [piece async for piece in stream]
    assert [prompt] == model.prompts


async def test_who_stops_listening_stops_the_model(blobs: ObjectBlobs):
    model, file = Gated("first"), await put(blobs, b"a", "text/plain")
    reader = AttachmentReader(blobs, model, accepts_images=True)

    async with aclosing(reader.stream("alice", [user(file)], "stub")) as pieces:
        assert "" == await anext(pieces)
        assert "first" == await anext(pieces)

    assert model.was_closed
