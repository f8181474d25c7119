from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from parley.models.base import Base


class ConversationRow(Base):
    __tablename__ = "conversations"

    user_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    title: Mapped[str]
    instructions: Mapped[str | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    # How many messages are shown: the next turn's positions follow it.
    length: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


# The list of conversations, newest first, by key.
Index(
    None,
    ConversationRow.user_id,
    ConversationRow.updated_at.desc(),
    ConversationRow.id.desc(),
)
