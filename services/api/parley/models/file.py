from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from parley.models.base import Base


class FileRow(Base):
    """
    What is known of a file, which never changes. Its bytes are in the file store, under its id.

    Whoever sweeps the file store asks by `id` alone, and not as a user.
    """

    __tablename__ = "files"
    __table_args__ = (CheckConstraint("size >= 0", name="size"), Index(None, "id"))

    user_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    filename: Mapped[str]
    content_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger())
    sha256: Mapped[str]
    created_at: Mapped[datetime]


class TurnAttachmentRow(Base):
    """
    That a turn carries a file, which cannot be deleted meanwhile.

    Gone with its turn, and when that has ended without messages.
    """

    __tablename__ = "turn_attachments"
    __table_args__ = (
        # Another user's file is not forbidden: it cannot be said.
        ForeignKeyConstraint(
            ["user_id", "turn_id"], ["turns.user_id", "turns.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(["user_id", "file_id"], ["files.user_id", "files.id"]),
        # Whether a file is carried by any.
        Index(None, "user_id", "file_id"),
    )

    user_id: Mapped[str] = mapped_column(primary_key=True)
    turn_id: Mapped[UUID] = mapped_column(primary_key=True)
    file_id: Mapped[UUID] = mapped_column(primary_key=True)
    ordinal: Mapped[int]
