from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from parley.models.base import Base


class UserRow(Base):
    """
    A local account. Users of other issuers have none, so nothing has a foreign key to it.

    `id` is text: a UUID here, whatever the issuer says elsewhere.
    """

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
