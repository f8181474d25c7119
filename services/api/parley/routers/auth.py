from fastapi import APIRouter

from parley.core.errors import (
    AccountGone,
    EmailTaken,
    InvalidCredentials,
    RegistrationClosed,
    SessionRequired,
    Unauthenticated,
    WrongPassword,
)
from parley.dependencies.auth import SessionUserId
from parley.dependencies.services import Accounts, Sessions
from parley.routers._responses import BODY, STORE, TOKEN, JsonRoute, problems
from parley.schemas.accounts import (
    Login,
    PasswordChange,
    RefreshToken,
    Registration,
    Session,
    SignedOut,
)

router = APIRouter(prefix="/auth", tags=["accounts"], route_class=JsonRoute)


@router.post(
    "/register",
    status_code=201,
    responses=problems(RegistrationClosed, EmailTaken, *BODY, *STORE),
)
async def register(registration: Registration, accounts: Accounts) -> Session:
    """Open an account, and a session with it."""
    return await accounts.register(registration)


@router.post("/login", responses=problems(InvalidCredentials, *BODY, *STORE))
async def log_in(login: Login, accounts: Accounts) -> Session:
    """Open a session. One answer for an unknown address and a wrong password."""
    return await accounts.login(login)


@router.post("/refresh", responses=problems(Unauthenticated, *BODY, *STORE))
async def refresh_session(body: RefreshToken, sessions: Sessions) -> Session:
    """
    Go on with a session: two new tokens for a refresh token, which is good once.

    It may be used again for a few seconds, as two tabs do. After that it ends the session: somebody
    has kept a copy.
    """
    return await sessions.refresh(body.refresh_token.get_secret_value())


@router.post("/logout", responses=problems(*BODY, *STORE))
async def log_out(body: RefreshToken, sessions: Sessions) -> SignedOut:
    """End the session that the refresh token is of, its access tokens too."""
    await sessions.close(body.refresh_token.get_secret_value())
    return SignedOut()


@router.post(
    "/password",
    responses=problems(*TOKEN, SessionRequired, AccountGone, WrongPassword, *BODY, *STORE),
)
async def change_password(
    user_id: SessionUserId, change: PasswordChange, accounts: Accounts
) -> Session:
    """Change it. Every session ends; the answer is a new one."""
    return await accounts.change_password(user_id, change)
