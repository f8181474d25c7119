from fastapi import APIRouter

from parley.core.errors import AccountGone, SessionRequired
from parley.dependencies.auth import Caller, NoKey
from parley.dependencies.services import Accounts
from parley.routers._responses import STORE, TOKEN, JsonRoute, problems
from parley.schemas.accounts import Me
from parley.schemas.paging import Deleted

router = APIRouter(prefix="/auth/me", tags=["accounts"], route_class=JsonRoute)


@router.get("", responses=problems(*TOKEN, AccountGone, *STORE))
async def get_me(caller: Caller, accounts: Accounts) -> Me:
    """Whose token it is."""
    return await accounts.me(caller)


@router.delete("", responses=problems(*TOKEN, AccountGone, SessionRequired, *STORE))
async def delete_me(caller: NoKey, accounts: Accounts) -> Deleted:
    """
    Delete the account and everything that is its user's. There is no way back.

    An API key cannot do it. Of another issuer's user Parley deletes what it has; the account is the
    issuer's.
    """
    await accounts.delete(caller)
    return Deleted(id=caller.user_id)
