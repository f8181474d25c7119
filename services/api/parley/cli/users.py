from pydantic import SecretStr, ValidationError

from parley.core.security.passwords import Passwords
from parley.core.security.tokens import LocalTokens
from parley.core.settings import Settings
from parley.main import open_store
from parley.schemas.accounts import Registration, User
from parley.services.accounts import AccountService


class Rejected(Exception):
    """The address or the password is not one; one line a fault."""


async def create(settings: Settings, email: str, password: str) -> User:
    """
    Raises:
        Rejected: the address or the password is not one.
        EmailTaken: the address has an account.
        DatabaseUnavailable: no answer in time.
    """
    try:
        registration = Registration(email=email, password=SecretStr(password))
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        raise Rejected("\n".join(f"{f['loc'][0]}: {f['msg']}" for f in faults)) from None
    store = open_store(settings)
    try:
        accounts = AccountService(store, LocalTokens("", lifetime_seconds=0), Passwords())
        return await accounts.create(registration)
    finally:
        await store.close()
