from datetime import UTC, datetime

from parley.crud.memory.tables import Tables
from parley.schemas.accounts import Account


class MemoryAccounts:
    def __init__(self, tables: Tables, user_id: str) -> None:
        self._accounts = tables.accounts
        self._user_id = user_id
        self._key = f"{user_id}/{user_id}"

    async def create(self, email: str, password_hash: str) -> Account | None:
        if any(email == account.email for account in self._accounts.values()):
            return None
        self._accounts[self._key] = Account(
            id=self._user_id,
            email=email,
            password_hash=password_hash,
            created_at=datetime.now(UTC),
        )
        return self._accounts[self._key]

    async def get(self) -> Account | None:
        return self._accounts.get(self._key)
