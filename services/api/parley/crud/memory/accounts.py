from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from parley.core.errors import AccountGone
from parley.core.ids import is_of_local_account
from parley.crud.memory.tables import Tables, owned
from parley.schemas.accounts import Account
from parley.schemas.turns import TurnStatus


def is_enabled(tables: Tables, user_id: str) -> bool:
    account = tables.accounts.get(f"{user_id}/{user_id}")
    return account is not None and account.disabled_at is None


def hold_account(tables: Tables, user_id: str) -> None:
    """
    Raises:
        AccountGone: the user should have a local account, and has none.
    """
    if is_of_local_account(user_id) and f"{user_id}/{user_id}" not in tables.accounts:
        raise AccountGone


class MemoryAccounts:
    def __init__(self, tables: Tables, user_id: str) -> None:
        self._tables = tables
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
            disabled_at=None,
            created_at=datetime.now(UTC),
        )
        return self._accounts[self._key]

    async def get(self) -> Account | None:
        return self._accounts.get(self._key)

    async def lock(self) -> Account | None:
        # One user's transactions run one after the other.
        return await self.get()

    async def set_password(self, password_hash: str) -> None:
        self._change(password_hash=password_hash)

    async def set_disabled(self, *, is_disabled: bool) -> None:
        account = await self.get()
        since = (account and account.disabled_at) or datetime.now(UTC)
        self._change(disabled_at=since if is_disabled else None)

    async def delete(self) -> Sequence[UUID]:
        files = [file.id for file in owned(self._tables.files, self._user_id).values()]
        for stored in owned(self._tables.turns, self._user_id).values():
            if stored.turn.status is TurnStatus.RUNNING:
                self._tables.tell(stored.worker_id)
        for table in self._tables.of_users():
            for key in owned(table, self._user_id):
                del table[key]
        return files

    def _change(self, **fields: object) -> None:
        if account := self._accounts.get(self._key):
            self._accounts[self._key] = account.model_copy(update=fields)
