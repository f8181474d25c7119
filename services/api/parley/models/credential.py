from datetime import datetime
from uuid import UUID

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from parley.models.base import Base


class RefreshTokenRow(Base):
    """
    A session is the family of these: each one that is used is followed by another.

    The used ones stay until they expire, so that one who comes back with an old one is noticed.
    `hash` is unique alone: it is asked for before it is known whose it is.
    """

    __tablename__ = "refresh_tokens"
    __table_args__ = (UniqueConstraint("hash"),)

    user_id: Mapped[str] = mapped_column(primary_key=True)
    family: Mapped[UUID] = mapped_column(primary_key=True)
    hash: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ApiKeyRow(Base):
    """`hash` is unique alone, as above; `prefix` is the part of the key that its owner is shown."""

    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("hash"),)

    user_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    hash: Mapped[str]
    prefix: Mapped[str]
    name: Mapped[str]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
