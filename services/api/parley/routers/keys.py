from uuid import UUID

from fastapi import APIRouter

from parley.core.errors import (
    AccountGone,
    InvalidCursor,
    KeyNotFound,
    SessionRequired,
    TooManyKeys,
)
from parley.dependencies.auth import Caller, SessionUserId
from parley.dependencies.paging import LIMIT, Cursor, Limit
from parley.dependencies.services import Keys
from parley.routers._responses import BODY, STORE, TOKEN, JsonRoute, problems
from parley.schemas.keys import ApiKey, CreatedKey, KeyDraft
from parley.schemas.paging import Deleted, Page

router = APIRouter(prefix="/auth/keys", tags=["accounts"], route_class=JsonRoute)

_SESSION = (*TOKEN, SessionRequired)


@router.post(
    "", status_code=201, responses=problems(*_SESSION, AccountGone, TooManyKeys, *BODY, *STORE)
)
async def create_key(
    user_id: SessionUserId, caller: Caller, draft: KeyDraft, keys: Keys
) -> CreatedKey:
    """Make an API key, a bearer token for your user. It is shown once; Parley keeps its hash."""
    return await keys.create(user_id, draft, session_id=caller.session_id)


@router.get("", responses=problems(InvalidCursor, *_SESSION, *STORE))
async def list_keys(
    user_id: SessionUserId, keys: Keys, limit: Limit = LIMIT, cursor: Cursor = None
) -> Page[ApiKey]:
    """Your API keys, without the keys themselves; the last made come first."""
    return await keys.newest(user_id, limit, cursor)


@router.delete("/{key_id}", responses=problems(*_SESSION, KeyNotFound, *STORE))
async def delete_key(user_id: SessionUserId, key_id: UUID, keys: Keys) -> Deleted:
    """Revoke it: it is refused from the next request on."""
    await keys.delete(user_id, key_id)
    return Deleted(id=str(key_id))
