from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from parley.models.base import Base


class MessageRow(Base):
    """
    Whole turns only. Both messages of a turn carry its status, so that a history is one index scan.
    """

    __tablename__ = "messages"
    __table_args__ = (
        CheckConstraint("role IN ('user', 'assistant')", name="role"),
        CheckConstraint("status IN ('complete', 'cancelled', 'failed')", name="status"),
        CheckConstraint("position > 0", name="position"),
        # A message in another user's conversation is not forbidden: it cannot be said.
        ForeignKeyConstraint(
            ["user_id", "conversation_id", "turn_id"],
            ["turns.user_id", "turns.conversation_id", "turns.id"],
            ondelete="CASCADE",
        ),
        # Every history and every page; a superseded turn keeps its positions beside its successor.
        Index(
            "uq_messages_position",
            "user_id",
            "conversation_id",
            "position",
            unique=True,
            postgresql_where=text("NOT superseded"),
            sqlite_where=text("NOT superseded"),
        ),
        # A turn's messages, also when their conversation is deleted.
        Index(None, "user_id", "conversation_id", "turn_id"),
    )

    user_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID]
    turn_id: Mapped[UUID]
    position: Mapped[int]
    role: Mapped[str]
    content: Mapped[str]
    status: Mapped[str]
    model: Mapped[str | None]
    usage: Mapped[dict[str, Any] | None]
    # Its turn's.
    attachments: Mapped[list[dict[str, Any]] | None]
    superseded: Mapped[bool]
    created_at: Mapped[datetime]
