from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from parley.schemas.accounts import Account
from parley.schemas.conversations import Conversation, Message
from parley.schemas.files import FileMetadata
from parley.schemas.turns import Turn

Value = TypeVar("Value")


class StoredTurn(NamedTuple):
    turn: Turn
    worker_id: UUID
    fence: UUID


class StoredMessage(NamedTuple):
    message: Message
    turn_id: UUID


@dataclass(frozen=True)
class Tables:
    """Every dict of the store; all but `workers` are keyed `f"{user_id}/{id}"`."""

    accounts: dict[str, Account]
    conversations: dict[str, Conversation]
    turns: dict[str, StoredTurn]
    messages: dict[str, StoredMessage]
    files: dict[str, FileMetadata]
    workers: dict[UUID, datetime]

    def of_users(self) -> list[dict[str, Any]]:
        return [self.accounts, self.conversations, self.turns, self.messages, self.files]


def owned(table: dict[str, Value], user_id: str) -> dict[str, Value]:
    return {key: value for key, value in table.items() if key.startswith(f"{user_id}/")}
