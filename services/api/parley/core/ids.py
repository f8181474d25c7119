"""Server-made ids: UUIDv7 (RFC 9562), so that keys grow with time and an index stays dense."""

from uuid import UUID

from uuid_utils.compat import uuid7

_VERSION = 7


def new_id() -> UUID:
    return uuid7()


def is_of_local_account(user_id: str) -> bool:
    """Whether it has the form of an id made here; no other issuer's user may have that."""
    try:
        return UUID(user_id).version == _VERSION
    except ValueError:
        return False
