"""The queries that are asked before it is known who asks: one for each kind of credential."""

from typing import Any

from sqlalchemy import Select, select

from parley.crud.sql.keys import has_not_expired
from parley.models import ApiKeyRow, RefreshTokenRow, UserRow, utc_now
from parley.schemas.accounts import (
    Credential,
    EmailCredential,
    KeyCredential,
    RefreshCredential,
)


def owner_of(credential: Credential) -> Select[Any]:
    """Selects the user's id. The row's policy lets nobody see another by what is looked up."""
    match credential:
        case EmailCredential(address):
            return select(UserRow.id).where(UserRow.email == address)
        case RefreshCredential(digest):
            return select(RefreshTokenRow.user_id).where(
                RefreshTokenRow.hash == digest, RefreshTokenRow.expires_at > utc_now()
            )
        case KeyCredential(digest):
            return select(ApiKeyRow.user_id).where(ApiKeyRow.hash == digest, has_not_expired())
