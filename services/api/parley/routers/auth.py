from fastapi import APIRouter

from parley.core.errors import (
    AccountGone,
    EmailTaken,
    InvalidCredentials,
    RateLimited,
    RefreshRefused,
    RegistrationClosed,
    SessionRequired,
    WrongPassword,
)
from parley.dependencies.auth import SessionUserId
from parley.dependencies.limits import AttemptLimits, RequestLimits
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
    responses=problems(RegistrationClosed, EmailTaken, *BODY, RateLimited, *STORE),
)
async def register(
    registration: Registration, accounts: Accounts, limits: AttemptLimits
) -> Session:
    """Open an account, and a session with it."""
    await limits.count_attempt_at(registration.email)
    return await accounts.register(registration)


@router.post("/login", responses=problems(InvalidCredentials, *BODY, RateLimited, *STORE))
async def log_in(login: Login, accounts: Accounts, limits: AttemptLimits) -> Session:
    """Open a session. One answer for an unknown address and a wrong password."""
    await limits.count_attempt_at(login.email)
    return await accounts.login(login)


@router.post("/refresh", responses=problems(RefreshRefused, *BODY, RateLimited, *STORE))
async def refresh_session(
    body: RefreshToken, sessions: Sessions, limits: RequestLimits
) -> Session:
    """
    Go on with a session: two new tokens for a refresh token, which is good once.

    It may be used again for a few seconds, as two tabs do. After that it ends the session: somebody
    has kept a copy.
    """
    return await sessions.refresh(body.refresh_token.get_secret_value(), limits.count_refresh)


@router.post("/logout", responses=problems(*BODY, *STORE))
async def log_out(body: RefreshToken, sessions: Sessions) -> SignedOut:
    """End the session that the refresh token is of, its access tokens too."""
    await sessions.close(body.refresh_token.get_secret_value())
    return SignedOut()


@router.post(
    "/password",
    responses=problems(
        *TOKEN, SessionRequired, AccountGone, WrongPassword, *BODY, RateLimited, *STORE
    ),
)
async def change_password(
    user_id: SessionUserId, change: PasswordChange, accounts: Accounts, limits: RequestLimits
) -> Session:
    """Change it. Every session ends; the answer is a new one."""
    await limits.count_password(user_id)
    return await accounts.change_password(user_id, change)
