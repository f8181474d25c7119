from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from parley.models.base import Base


class TurnRow(Base):
    """One message and what became of it. `worker_id` is no foreign key: a missing worker is dead."""

    __tablename__ = "turns"
    __table_args__ = (
        CheckConstraint("status IN ('running', 'complete', 'cancelled', 'failed')", name="status"),
        UniqueConstraint("user_id", "idempotency_key"),
        # What a message refers to: a turn of the same user and the same conversation.
        UniqueConstraint("user_id", "conversation_id", "id"),
        ForeignKeyConstraint(
            ["user_id", "conversation_id"],
            ["conversations.user_id", "conversations.id"],
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["user_id", "conversation_id", "superseded_by"],
            ["turns.user_id", "turns.conversation_id", "turns.id"],
        ),
        # At most one running turn a conversation: who inserts the second one has lost.
        Index(
            "uq_turns_running",
            "user_id",
            "conversation_id",
            unique=True,
            postgresql_where=text("status = 'running'"),
            sqlite_where=text("status = 'running'"),
        ),
    )

    user_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID]
    status: Mapped[str]
    message: Mapped[str]
    idempotency_key: Mapped[str | None]
    fingerprint: Mapped[str | None]
    worker_id: Mapped[UUID]
    fence: Mapped[UUID]
    cancel_requested: Mapped[bool]
    problem: Mapped[dict[str, Any] | None]
    superseded_by: Mapped[UUID | None]
    # No foreign key: it is told to the user whose turn this is, and nothing is found by it.
    replaces: Mapped[UUID | None]
    # The metadata of its files, which never change; that they stay is TurnAttachmentRow's business.
    attachments: Mapped[list[dict[str, Any]] | None]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class WorkerRow(Base):
    """
    A process that runs turns, alive until `lease_until`. No user's data.

    `cancels` goes up with each turn of it that is asked to end, or deleted: it need not look through
    them until then.
    """

    __tablename__ = "workers"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    lease_until: Mapped[datetime]
    cancels: Mapped[int] = mapped_column(server_default=text("0"))
