from fastapi import APIRouter

from parley.core.errors import AccountGone, EmailTaken, InvalidCredentials
from parley.dependencies.auth import UserId
from parley.dependencies.services import Accounts
from parley.routers._responses import BODY, STORE, TOKEN, JsonRoute, problems
from parley.schemas.accounts import Login, Me, Registration, Session

router = APIRouter(prefix="/auth", tags=["accounts"], route_class=JsonRoute)


@router.post("/register", status_code=201, responses=problems(EmailTaken, *BODY, *STORE))
async def register(registration: Registration, accounts: Accounts) -> Session:
    """Open an account, and a session with it."""
    return await accounts.register(registration)


@router.post("/login", responses=problems(InvalidCredentials, *BODY, *STORE))
async def log_in(login: Login, accounts: Accounts) -> Session:
    """Open a session. One answer for an unknown address and a wrong password."""
    return await accounts.login(login)


@router.get("/me", responses=problems(*TOKEN, AccountGone, *STORE))
async def get_me(user_id: UserId, accounts: Accounts) -> Me:
    """Whose token it is."""
    return await accounts.me(user_id)
