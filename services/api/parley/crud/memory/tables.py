from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from parley.schemas.accounts import Account
from parley.schemas.conversations import Conversation, Message
from parley.schemas.files import FileMetadata
from parley.schemas.keys import ApiKey
from parley.schemas.turns import Turn

Value = TypeVar("Value")


class StoredTurn(NamedTuple):
    turn: Turn
    worker_id: UUID
    fence: UUID
    idempotency_key: str | None = None
    fingerprint: str | None = None
    cancel_requested: bool = False


class StoredMessage(NamedTuple):
    message: Message
    turn_id: UUID
    superseded: bool = False


class StoredWorker(NamedTuple):
    lease_until: datetime
    cancels: int = 0


class StoredRefreshToken(NamedTuple):
    """Keyed by its hash."""

    family: UUID
    expires_at: datetime
    used_at: datetime | None


class StoredKey(NamedTuple):
    key: ApiKey
    hash: str


@dataclass(frozen=True)
class Tables:
    """Every dict of the store; all but `workers` are keyed `f"{user_id}/{id}"`."""

    accounts: dict[str, Account]
    refresh_tokens: dict[str, StoredRefreshToken]
    api_keys: dict[str, StoredKey]
    conversations: dict[str, Conversation]
    turns: dict[str, StoredTurn]
    messages: dict[str, StoredMessage]
    files: dict[str, FileMetadata]
    workers: dict[UUID, StoredWorker]

    def tell(self, worker_id: UUID) -> None:
        """Its count goes up."""
        if worker := self.workers.get(worker_id):
            self.workers[worker_id] = worker._replace(cancels=worker.cancels + 1)

    def of_users(self) -> list[dict[str, Any]]:
        return [table for name, table in vars(self).items() if name != "workers"]


def owned(table: dict[str, Value], user_id: str) -> dict[str, Value]:
    return {key: value for key, value in table.items() if key.startswith(f"{user_id}/")}
