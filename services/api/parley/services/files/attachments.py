"""What a model is shown of the files that messages carry."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

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
IMAGES_BYTES_AT_ONCE = 10 * IMAGES_BYTES_MAX
"""Of all prompts of a process: until it is answered, each keeps some four times as much."""
IMAGES_BYTES_PER_USER = 2 * IMAGES_BYTES_MAX
"""Of those."""
IMAGE_TYPES = {"image/gif", "image/jpeg", "image/png", "image/webp"}
# A character of UTF-8 has four bytes at most.
_CHARACTER_BYTES_MAX = 4

log = structlog.get_logger(__name__)


class AttachmentReader:
    """
    Asks the responder behind it, with what the prompt's files have in them.

    What is neither text nor a picture that the model takes is named, and not sent; so is what there
    is no room for, and what cannot be read in time. Where there is no memory for a picture of the newest
    message, for those that are being answered, the turn is to be repeated.
    """

    def __init__(self, blobs: Blobs, responder: Responder, *, accepts_images: bool) -> None:
        self._blobs = blobs
        self._responder = responder
        self._accepts_images = accepts_images
        self._image_bytes = Counter[str]()

    def stream(
        self, user_id: str, prompt: Sequence[PromptMessage], model: str
    ) -> AsyncGenerator[str | Receipt]:
        """As a responder does, for a prompt of this user's."""
        if any(message.attachments for message in prompt):
            return self._stream(user_id, prompt, model)
        return self._responder.stream(prompt, model)

    async def _stream(
        self, user_id: str, prompt: Sequence[PromptMessage], model: str
    ) -> AsyncGenerator[str | Receipt]:
        room = _Room(user_id, self._image_bytes)
        try:
            read = await self._read(prompt, room)
            yield ""  # the model is not as slow as what was read
            async with aclosing(self._responder.stream(read, model)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            room.leave()

    async def _read(
        self, prompt: Sequence[PromptMessage], room: "_Room"
    ) -> Sequence[PromptMessage]:
        read = list[PromptMessage]()
        for message in reversed(prompt):
            attachments = [await self._shown(a.file, room) for a in message.attachments]
            if room.is_short_of_memory and not read:
                reason = "as many bytes of images as this process, or one user, holds are being answered"
                advice = "Too many images are being looked at. Try again shortly."
                raise Fault(reason, Overloaded(advice))
            read.append(message._replace(attachments=tuple(attachments)))
        return read[::-1]

    async def _shown(self, file: FileMetadata, room: "_Room") -> PromptAttachment:
        try:
            async with asyncio.timeout_at(room.until):
                if is_textual(file.content_type) and room.takes_text():
                    return await self._with_text(file, room)
                if self._is_shown(file) and room.takes_image(file.size):
                    return await self._with_image(file, room)
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

    async def _with_image(self, file: FileMetadata, room: "_Room") -> PromptAttachment:
        try:
            return PromptAttachment(file, image=await self._bytes(file, file.size))
        except BaseException:
            room.give_back_image(file.size)
            raise

    async def _bytes(self, file: FileMetadata, end: int) -> bytes:
        return b"".join([piece async for piece in self._blobs.read(file.id, 0, end)])


class _Room:
    """What is left of it for the older ones."""

    def __init__(self, user_id: str, held: Counter[str]) -> None:
        """`held` are the bytes of images of all prompts, by user."""
        self.until = asyncio.get_running_loop().time() + READ_SECONDS
        self.is_closed = False
        self.characters = TEXT_CHARACTERS_MAX
        self._files = FILES_MAX
        self.is_short_of_memory = False
        self._user_id = user_id
        self._held = held
        self._image_bytes = 0

    def takes_text(self) -> bool:
        return self.characters > 0 and self._takes_a_file()

    def takes_image(self, size: int) -> bool:
        has_room = 0 < size <= IMAGES_BYTES_MAX - self._image_bytes
        if not has_room or not self._takes_a_file():
            return False
        left = IMAGES_BYTES_AT_ONCE - self._held.total()
        if size > min(left, IMAGES_BYTES_PER_USER - self._held[self._user_id]):
            self.is_short_of_memory = True
            return False
        self._image_bytes += size
        self._held[self._user_id] += size
        return True

    def give_back_image(self, size: int) -> None:
        self._image_bytes -= size
        self._held[self._user_id] -= size

    def leave(self) -> None:
        self.give_back_image(self._image_bytes)
        if not self._held[self._user_id]:
            del self._held[self._user_id]

    def _takes_a_file(self) -> bool:
        self._files -= 1
        return self._files >= 0 and not self.is_closed
