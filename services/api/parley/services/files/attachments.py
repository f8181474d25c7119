"""What a model is shown of the files that messages carry."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import structlog

from parley.core.errors import AppError
from parley.crud.ports import Blobs
from parley.schemas.files import FileMetadata
from parley.services.files.types import is_textual
from parley.services.responders.base import (
    PromptAttachment,
    PromptMessage,
    Receipt,
    Responder,
)

TEXT_CHARACTERS_MAX = 100_000
"""Of all files of a prompt together, the newest first."""
IMAGES_BYTES_MAX = 5 * 1024**2
"""Likewise: they are sent as text, in one request, which stays in memory until it is answered."""
IMAGE_TYPES = {"image/gif", "image/jpeg", "image/png", "image/webp"}
# A character of UTF-8 has four bytes at most.
_CHARACTER_BYTES_MAX = 4

log = structlog.get_logger(__name__)


class AttachmentReader:
    """
    Asks the responder behind it, with what the prompt's files have in them.

    What is neither text nor a picture that the model takes is named, and not sent; so is what there
    is no room for, and what cannot be read.
    """

    def __init__(self, blobs: Blobs, responder: Responder, *, accepts_images: bool) -> None:
        self._blobs = blobs
        self._responder = responder
        self._accepts_images = accepts_images

    def stream(self, prompt: Sequence[PromptMessage], model: str) -> AsyncGenerator[str | Receipt]:
        if any(message.attachments for message in prompt):
            return self._stream(prompt, model)
        return self._responder.stream(prompt, model)

    async def _stream(
        self, prompt: Sequence[PromptMessage], model: str
    ) -> AsyncGenerator[str | Receipt]:
        read = await self._read(prompt)
        async with aclosing(self._responder.stream(read, model)) as pieces:
            async for piece in pieces:
                yield piece

    async def _read(self, prompt: Sequence[PromptMessage]) -> Sequence[PromptMessage]:
        room = _Room()
        read = []
        for message in reversed(prompt):
            attachments = [await self._shown(a.file, room) for a in message.attachments]
            read.append(message._replace(attachments=tuple(attachments)))
        return read[::-1]

    async def _shown(self, file: FileMetadata, room: "_Room") -> PromptAttachment:
        is_picture = self._accepts_images and file.content_type in IMAGE_TYPES
        try:
            if is_textual(file.content_type) and room.characters:
                return await self._with_text(file, room)
            if is_picture and 0 < file.size <= room.image_bytes:
                room.image_bytes -= file.size
                return PromptAttachment(file, image=await self._bytes(file, file.size))
        except AppError as error:
            log.warning("attachment-not-read", file_id=str(file.id), code=error.code)
        return PromptAttachment(file)

    async def _with_text(self, file: FileMetadata, room: "_Room") -> PromptAttachment:
        end = min(file.size, room.characters * _CHARACTER_BYTES_MAX)
        # The last character may have come in part.
        text = (await self._bytes(file, end)).decode(errors="ignore")
        shown = text[: room.characters]
        room.characters -= len(shown)
        return PromptAttachment(file, text=shown, is_cut=end < file.size or len(shown) < len(text))

    async def _bytes(self, file: FileMetadata, end: int) -> bytes:
        return b"".join([piece async for piece in self._blobs.read(file.id, 0, end)])


class _Room:
    """What is left of it for the older ones."""

    def __init__(self) -> None:
        self.characters = TEXT_CHARACTERS_MAX
        self.image_bytes = IMAGES_BYTES_MAX
