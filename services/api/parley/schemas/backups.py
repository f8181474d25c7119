"""What a backup says of itself."""

from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from pydantic import Field

from parley import __version__
from parley.schemas.base import Entity

SHA256 = r"^[0-9a-f]{64}$"


class Snapshot(Entity):
    """What the database was when it was copied: revision, rows and files are of one moment."""

    made_at: datetime
    revision: str = Field(pattern=r"^[0-9]{4}$")
    rows: dict[str, int]


class KeptFile(NamedTuple):
    """A file, and what its bytes must be."""

    id: UUID
    sha256: str


class DatabaseCopy(Entity):
    name: Literal["database.dump", "database.sqlite"]
    size: int
    sha256: str = Field(pattern=SHA256)


class FileCopies(Entity):
    """Their names and checksums are a list of its own, as `sha256sum --check` reads it."""

    count: int
    total_bytes: int
    list_sha256: str = Field(pattern=SHA256)


class Manifest(Snapshot):
    """Written last: where there is one, the backup is whole."""

    format: Literal[1] = 1
    parley: str = __version__
    database: DatabaseCopy
    files: FileCopies
    deleted: tuple[UUID, ...]
    """Files that were deleted while their bytes were being copied: in the database, and empty-handed."""
    lost: tuple[UUID, ...]
    """Files that had lost their bytes before, or some of them."""
