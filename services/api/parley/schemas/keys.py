from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field
from pydantic_core import PydanticCustomError

from parley.schemas.base import STORABLE, Entity, RequestBody

_EXPIRY_DAYS_MAX = 3660


def _to_come(instant: datetime) -> datetime:
    now = datetime.now(UTC)
    if not now < instant < now + timedelta(days=_EXPIRY_DAYS_MAX):
        raise PydanticCustomError("not_to_come", "Must be a time within the ten years to come")
    return instant.astimezone(UTC)


Expiry = Annotated[AwareDatetime, AfterValidator(_to_come)]


def _printable(name: str) -> str:
    # It is shown in lists and on terminals, beside others. Joiners are letters of many languages.
    shown = name.replace("\u200c", "").replace("\u200d", "")
    if not shown.isprintable() or not shown.strip():
        raise PydanticCustomError("not_printable", "Must be one line of printable characters")
    return name


KeyName = Annotated[
    str,
    Field(strict=True, min_length=1, max_length=100),
    STORABLE,
    AfterValidator(_printable),
]


class KeyDraft(RequestBody):
    name: KeyName = Field(
        description="What it is for, to tell it from the others.", examples=["nightly import"]
    )
    expires_at: Expiry | None = Field(
        None, description="It lasts until it is deleted if left out."
    )


class ApiKey(Entity):
    """A key as its owner sees it: never the key itself."""

    id: UUID
    name: str = Field(examples=["nightly import"])
    prefix: str = Field(description="How the key begins.", examples=["parley_key_Ab3dE"])
    created_at: datetime
    last_used_at: datetime | None = Field(description="To about a minute.")
    expires_at: datetime | None


class CreatedKey(ApiKey):
    key: str = Field(
        description="Send it as `Authorization: Bearer …`. It is shown here and never again.",
        examples=["parley_key_…"],
    )


class NewKey(NamedTuple):
    """What the store keeps of a key."""

    id: UUID
    hash: str
    prefix: str
    name: str
    expires_at: datetime | None
