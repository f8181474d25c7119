"""What the commands do to accounts, as the API's role: every rule of the store holds here too."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pydantic import SecretStr, TypeAdapter, ValidationError

from parley.core.logging import configure_logging
from parley.core.security.cursors import Cursors
from parley.core.security.passwords import Passwords
from parley.core.settings import Settings
from parley.crud.ports import Store
from parley.schemas.accounts import Email, Registration, User
from parley.schemas.keys import CreatedKey, KeyDraft
from parley.services.files.erasing import Eraser
from parley.services.keys import KeyService
from parley.services.operators import AccountUnknown, OperatorService
from parley.wiring import open_blobs, open_store

Result = TypeVar("Result")


class Rejected(Exception):
    """What was given is not good for it; one line a fault."""


async def create(settings: Settings, email: str, password: str) -> User:
    """
    Raises:
        Rejected: the address or the password is not one, or nobody could use the account.
        EmailTaken: the address has an account.
        DatabaseUnavailable: no answer in time.
    """
    _want_local_accounts(settings)
    registration = _checked(Registration, email=email, password=SecretStr(password))
    return await _with_store(settings, lambda operator, _: operator.create(registration))


async def reset_password(settings: Settings, email: str, password: str) -> str:
    """
    Raises:
        Rejected: as of `create`, or the address has no account.
        DatabaseUnavailable: no answer in time.
    """
    _want_local_accounts(settings)
    registration = _checked(Registration, email=email, password=SecretStr(password))
    return await _with_store(settings, lambda operator, _: operator.reset_password(registration))


async def disable(settings: Settings, email: str) -> str:
    """
    Raises:
        Rejected: the address is not one, or has no account.
        DatabaseUnavailable: no answer in time.
    """
    address = _address(email)
    return await _with_store(settings, lambda operator, _: operator.disable(address))


async def enable(settings: Settings, email: str) -> str:
    """As `disable`."""
    address = _address(email)
    return await _with_store(settings, lambda operator, _: operator.enable(address))


async def delete(settings: Settings, email: str) -> str:
    """As `disable`."""
    address = _address(email)
    return await _with_store(settings, lambda operator, _: operator.delete(address))


async def create_key(
    settings: Settings, email: str, name: str, expires_in_days: int | None
) -> CreatedKey:
    """
    Raises:
        Rejected: the address has no account, name or time are no good, or nobody could use the key.
        TooManyKeys: there are a hundred already.
        DatabaseUnavailable: no answer in time.
    """
    _want_local_accounts(settings)
    address = _address(email)
    expires_at = expires_in_days and datetime.now(UTC) + timedelta(days=expires_in_days)
    draft = _checked(KeyDraft, name=name, expires_at=expires_at)

    async def make(operator: OperatorService, store: Store) -> CreatedKey:
        user_id = await operator.find(address)
        return await KeyService(store, Cursors()).create(user_id, draft)

    return await _with_store(settings, make)


def _want_local_accounts(settings: Settings) -> None:
    if "local" not in settings.auth_mode:
        msg = "AUTH_MODE: has no `local`, so the API would believe nobody with it; add `local`"
        raise Rejected(msg)


async def _with_store(
    settings: Settings, act: Callable[[OperatorService, Store], Awaitable[Result]]
) -> Result:
    # For the audit: whoever works from a shell is recorded as well.
    configure_logging(settings.log_level, settings.log_format)
    async with AsyncExitStack() as closing:
        store = open_store(settings)
        closing.push_async_callback(store.close)
        eraser = Eraser(open_blobs(settings, closing))
        try:
            return await act(OperatorService(store, Passwords(), eraser), store)
        except AccountUnknown as unknown:
            msg = f"No account has the address {unknown}."
            raise Rejected(msg) from None


def _address(email: str) -> str:
    try:
        return TypeAdapter[str](Email).validate_python(email)
    except ValidationError as error:
        raise _rejected(error) from None


def _checked(schema: Callable[..., Result], **fields: Any) -> Result:
    try:
        return schema(**fields)
    except ValidationError as error:
        raise _rejected(error) from None


def _rejected(error: ValidationError) -> Rejected:
    faults = error.errors(include_input=False, include_url=False)
    return Rejected("\n".join(f"{(*f['loc'], 'email')[0]}: {f['msg']}" for f in faults))
