"""What a model is shown of the files that messages carry."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, contextmanager

import structlog

from parley.core.errors import AppError, FileLost, Overloaded
from parley.crud.ports import Blobs
from parley.schemas.files import FileMetadata
from parley.services.files.types import is_textual
from parley.services.responders.base import (
    Fault,
    PromptAttachment,
    PromptMessage,
    Receipt,
    Responder,
)

TEXT_CHARACTERS_MAX = 100_000
"""Of all files of a prompt together, the newest first."""
IMAGES_BYTES_MAX = 5 * 1024**2
"""Likewise: they are sent as text, in one request, which stays in memory until it is answered."""
FILES_MAX = 50
"""Likewise: each is asked for by itself, before the model is."""
READ_SECONDS = 10.0
"""For all of them together."""
WITH_IMAGES_AT_ONCE = 10
"""Prompts of a process: each keeps some 20 MiB until it is answered."""
IMAGE_TYPES = {"image/gif", "image/jpeg", "image/png", "image/webp"}
# A character of UTF-8 has four bytes at most.
_CHARACTER_BYTES_MAX = 4

log = structlog.get_logger(__name__)


class AttachmentReader:
    """
    Asks the responder behind it, with what the prompt's files have in them.

    What is neither text nor a picture that the model takes is named, and not sent; so is what there
    is no room for, and what cannot be read in time.
    """

    def __init__(self, blobs: Blobs, responder: Responder, *, accepts_images: bool) -> None:
        self._blobs = blobs
        self._responder = responder
        self._accepts_images = accepts_images
        self._with_images = 0

    def stream(self, prompt: Sequence[PromptMessage], model: str) -> AsyncGenerator[str | Receipt]:
        if any(message.attachments for message in prompt):
            return self._stream(prompt, model)
        return self._responder.stream(prompt, model)

    async def _stream(
        self, prompt: Sequence[PromptMessage], model: str
    ) -> AsyncGenerator[str | Receipt]:
        with self._place_for_images(prompt):
            read = await self._read(prompt)
            async with aclosing(self._responder.stream(read, model)) as pieces:
                async for piece in pieces:
                    yield piece

    @contextmanager
    def _place_for_images(self, prompt: Sequence[PromptMessage]) -> Generator[None]:
        has_images = any(self._is_shown(a.file) for m in prompt for a in m.attachments)
        if has_images and self._with_images >= WITH_IMAGES_AT_ONCE:
            reason = "as many prompts with images as this process holds are being answered"
            raise Fault(
                reason, Overloaded("Too many images are being looked at. Try again shortly.")
            )
        self._with_images += has_images
        try:
            yield
        finally:
            self._with_images -= has_images

    async def _read(self, prompt: Sequence[PromptMessage]) -> Sequence[PromptMessage]:
        room = _Room()
        read = []
        for message in reversed(prompt):
            attachments = [await self._shown(a.file, room) for a in message.attachments]
            read.append(message._replace(attachments=tuple(attachments)))
        return read[::-1]

    async def _shown(self, file: FileMetadata, room: "_Room") -> PromptAttachment:
        try:
            async with asyncio.timeout_at(room.until):
                if is_textual(file.content_type) and room.takes_text():
                    return await self._with_text(file, room)
                if self._is_shown(file) and room.takes_image(file.size):
                    return PromptAttachment(file, image=await self._bytes(file, file.size))
        except (AppError, TimeoutError) as error:
            # One that is away is not asked again and again.
            room.is_closed = not isinstance(error, FileLost)
            log.warning("attachment-not-read", file_id=str(file.id), error=type(error).__name__)
        return PromptAttachment(file)

    def _is_shown(self, file: FileMetadata) -> bool:
        """As an image."""
        return self._accepts_images and file.content_type in IMAGE_TYPES

    async def _with_text(self, file: FileMetadata, room: "_Room") -> PromptAttachment:
        end = min(file.size, room.characters * _CHARACTER_BYTES_MAX)
        # The last character may have come in part; a byte order mark is none.
        text = (await self._bytes(file, end)).decode("utf-8-sig", errors="ignore")
        shown = text[: room.characters]
        room.characters -= len(shown)
        return PromptAttachment(file, text=shown, is_cut=end < file.size or len(shown) < len(text))

    async def _bytes(self, file: FileMetadata, end: int) -> bytes:
        return b"".join([piece async for piece in self._blobs.read(file.id, 0, end)])


class _Room:
    """What is left of it for the older ones."""

    def __init__(self) -> None:
        self.until = asyncio.get_running_loop().time() + READ_SECONDS
        self.is_closed = False
        self.characters = TEXT_CHARACTERS_MAX
        self._files = FILES_MAX
        self._image_bytes = IMAGES_BYTES_MAX

    def takes_text(self) -> bool:
        return self.characters > 0 and self._takes_a_file()

    def takes_image(self, size: int) -> bool:
        if not 0 < size <= self._image_bytes or not self._takes_a_file():
            return False
        self._image_bytes -= size
        return True

    def _takes_a_file(self) -> bool:
        self._files -= 1
        return self._files >= 0 and not self.is_closed
