from datetime import datetime
from uuid import UUID

from pydantic import Field

from parley.schemas.base import Entity


class FileMetadata(Entity):
    """What is known of a file; its bytes are elsewhere."""

    id: UUID
    filename: str
    content_type: str
    size: int = Field(ge=0, description="Bytes.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: datetime
