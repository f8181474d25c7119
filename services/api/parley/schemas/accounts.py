import re
import unicodedata
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from parley.schemas.base import STORABLE, Entity, RequestBody, absent, storable

# An address is a name to log in by: no mail is sent to it, so `ann@intranet.local` is as good as
# any, and what RFC 5321 bounds is all that is asked of it.
ADDRESS_CHARACTERS_MAX = 254
_ADDRESS = re.compile(r"[^@\s]{1,64}@[^@\s]{1,253}")


def _normalised(address: str) -> str:
    # A capital may be more characters as a small letter.
    address = unicodedata.normalize("NFC", address.strip().lower())
    if len(address) > ADDRESS_CHARACTERS_MAX:
        raise PydanticCustomError("string_too_long", "Must have at most 254 characters")
    if not (_ADDRESS.fullmatch(address) and address.isprintable()):
        raise PydanticCustomError("email_invalid", "Must be an e-mail address")
    return address


Email = Annotated[
    str,
    Field(strict=True, max_length=ADDRESS_CHARACTERS_MAX, examples=["ann@example.com"]),
    STORABLE,
    AfterValidator(_normalised),
]


def _characters(least: int, most: int) -> Callable[[SecretStr], SecretStr]:
    """Pydantic's own bounds speak of a secret's "items", and not of characters."""

    def check(secret: SecretStr) -> SecretStr:
        if len(secret) < least:
            text = "Must have at least {least} characters"
            raise PydanticCustomError("string_too_short", text, {"least": least})
        if len(secret) > most:
            text = "Must have at most {most} characters"
            raise PydanticCustomError("string_too_long", text, {"most": most})
        storable(secret.get_secret_value())
        return secret

    return check


Password = Annotated[
    SecretStr,
    Field(
        examples=["correct horse battery staple"],
        json_schema_extra={"minLength": 12, "maxLength": 128},
    ),
    AfterValidator(_characters(12, 128)),
]
# No minimum here: a short password is wrong, not malformed.
GivenPassword = Annotated[
    SecretStr,
    Field(examples=["correct horse battery staple"], json_schema_extra={"maxLength": 128}),
    AfterValidator(_characters(0, 128)),
]


class EmailCredential(NamedTuple):
    """What somebody claims before it is known who they are; `address` is normalised."""

    address: str


class RefreshCredential(NamedTuple):
    """A refresh token, by its hash."""

    hash: str


class KeyCredential(NamedTuple):
    """An API key, by its hash."""

    hash: str


Credential = EmailCredential | RefreshCredential | KeyCredential
"""What `Store.resolve` takes; its type names the table that is asked."""


class Account(Entity):
    """A local account as its owner's transaction sees it. Never sent to a client."""

    id: str
    email: str
    password_hash: str = Field(repr=False)
    disabled_at: datetime | None
    created_at: datetime


class Rotation(NamedTuple):
    """A refresh token was used: of which session, and whether it had been long before."""

    session_id: UUID
    is_reuse: bool


class Registration(RequestBody):
    email: Email
    password: Password


class Login(RequestBody):
    email: Email
    password: GivenPassword


class PasswordChange(RequestBody):
    current: GivenPassword
    new: Password


class RefreshToken(RequestBody):
    refresh_token: Annotated[
        SecretStr,
        Field(examples=["parley_refresh_…"], json_schema_extra={"maxLength": 256}),
        AfterValidator(_characters(0, 256)),
    ]


class User(Entity):
    id: str = Field(examples=["01934a7e-6b1c-7d4e-9d38-6f1f6f1b8f3a"])
    email: str = Field(examples=["ann@example.com"])
    created_at: datetime


class Me(Entity):
    """Who the token speaks for."""

    id: str = Field(examples=["01934a7e-6b1c-7d4e-9d38-6f1f6f1b8f3a"])
    email: str | None = Field(
        None,
        exclude_if=absent,
        description="Of a local account; left out for another issuer's user.",
        examples=["ann@example.com"],
    )


class Session(Entity):
    """
    An open session: send `access_token` as `Authorization: Bearer …` until it expires, then
    `refresh_token` to `/auth/refresh` for the next two.
    """

    user: User
    access_token: str = Field(examples=["eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.…"])
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - RFC 6749's word for it
    expires_in: int = Field(description="Seconds until the access token expires.", examples=[900])
    refresh_token: str = Field(
        description="Good once, and for a few seconds more.", examples=["parley_refresh_…"]
    )


class SignedOut(Entity):
    signed_out: bool = True
