from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from pydantic import Field

from parley.schemas.base import Entity


class NewFile(Entity):
    """A file whose bytes are there, and that is not anybody's yet."""

    id: UUID
    filename: str = Field(description="As it was given, but for what could mislead.")
    content_type: str = Field(
        description="What its content is, as far as it shows.", examples=["text/markdown"]
    )
    size: int = Field(ge=0, description="Bytes.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of its bytes, in hexadecimal.")


class FileMetadata(NewFile):
    """What is known of a file; its bytes are elsewhere. It never changes."""

    created_at: datetime


class Usage(NamedTuple):
    """What a user keeps."""

    total_bytes: int
    files: int


class StorageQuota(NamedTuple):
    """What a user may keep."""

    max_bytes: int
    max_files: int

    def has_room_for(self, size: int, kept: Usage) -> bool:
        return kept.total_bytes + size <= self.max_bytes and kept.files < self.max_files


class StoredBlob(NamedTuple):
    """What the file store has under a file's id."""

    id: UUID
    size: int
    modified_at: datetime
