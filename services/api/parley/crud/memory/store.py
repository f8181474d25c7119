"""
Dicts behind the same doors, for tests: `create_app(settings, store=MemoryStore())`.

A transaction writes at once and puts back what was there when it fails; one user's transactions
run one after the other.
"""

from asyncio import Lock
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

from parley.crud.memory.accounts import MemoryAccounts
from parley.crud.memory.conversations import MemoryConversations
from parley.crud.memory.files import MemoryFiles
from parley.crud.memory.keys import MemoryKeys, has_not_expired
from parley.crud.memory.messages import MemoryMessages
from parley.crud.memory.sessions import MemorySessions
from parley.crud.memory.tables import (
    StoredKey,
    StoredMessage,
    StoredRefreshToken,
    StoredTurn,
    StoredWorker,
    Tables,
    owned,
)
from parley.crud.memory.turns import MemoryTurns
from parley.crud.ports import DEAD_SECONDS, LEASE_SECONDS, LOST_SECONDS, SCHEMA_REVISION
from parley.schemas.accounts import (
    Account,
    Credential,
    EmailCredential,
    KeyCredential,
    RefreshCredential,
)
from parley.schemas.conversations import Conversation
from parley.schemas.files import FileMetadata
from parley.schemas.health import Pool

account_store: dict[str, Account] = {}
api_key_store: dict[str, StoredKey] = {}
conversation_store: dict[str, Conversation] = {}
file_store: dict[str, FileMetadata] = {}
message_store: dict[str, StoredMessage] = {}
refresh_token_store: dict[str, StoredRefreshToken] = {}
turn_store: dict[str, StoredTurn] = {}
worker_store: dict[UUID, StoredWorker] = {}

_TABLES = Tables(
    accounts=account_store,
    refresh_tokens=refresh_token_store,
    api_keys=api_key_store,
    conversations=conversation_store,
    turns=turn_store,
    messages=message_store,
    files=file_store,
    workers=worker_store,
)


def empty_tables() -> None:
    for table in _TABLES.of_users():
        table.clear()
    worker_store.clear()


class MemoryTransaction:
    def __init__(self, tables: Tables, user_id: str) -> None:
        self.conversations = MemoryConversations(tables, user_id)
        self.turns = MemoryTurns(tables, user_id)
        self.messages = MemoryMessages(tables, user_id)
        self.accounts = MemoryAccounts(tables, user_id)
        self.sessions = MemorySessions(tables, user_id)
        self.keys = MemoryKeys(tables, user_id)
        self.files = MemoryFiles(tables, user_id)


class MemoryStore:
    def __init__(self) -> None:
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)

    @asynccontextmanager
    async def begin(
        self, user_id: str, *, read_only: bool = False
    ) -> AsyncGenerator[MemoryTransaction]:
        async with self._locks[user_id]:
            before = [owned(table, user_id) for table in _TABLES.of_users()]
            try:
                yield MemoryTransaction(_TABLES, user_id)
            except BaseException:
                for table, rows in zip(_TABLES.of_users(), before, strict=True):
                    for key in owned(table, user_id):
                        del table[key]
                    table.update(rows)
                raise

    async def resolve(self, credential: Credential) -> str | None:
        return next((key.partition("/")[0] for key in _named_by(credential)), None)

    async def ping(self) -> None:
        pass

    def pool(self) -> Pool | None:
        return None

    async def revision(self) -> str | None:
        return SCHEMA_REVISION

    async def clock(self) -> datetime:
        return datetime.now(UTC)

    async def faults(self) -> Sequence[str]:
        return ()

    async def index_faults(self) -> Sequence[str]:
        return ()

    async def renew(self, worker_id: UUID) -> None:
        lease_until = datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)
        worker_store[worker_id] = StoredWorker(lease_until, await self.cancels(worker_id))

    async def cancels(self, worker_id: UUID) -> int:
        worker = worker_store.get(worker_id)
        return worker.cancels if worker else 0

    async def forget(self, worker_id: UUID) -> None:
        worker_store.pop(worker_id, None)

    async def lost(self) -> int:
        now = datetime.now(UTC)
        horizon = now - timedelta(seconds=LOST_SECONDS)
        return sum(horizon < worker.lease_until < now for worker in worker_store.values())

    async def forget_dead(self) -> None:
        horizon = datetime.now(UTC) - timedelta(seconds=DEAD_SECONDS)
        for worker_id, worker in list(worker_store.items()):
            if worker.lease_until < horizon:
                del worker_store[worker_id]

    async def close(self) -> None:
        pass


def _named_by(credential: Credential) -> Iterator[str]:
    """Keys of what the credential names."""
    match credential:
        case EmailCredential(address):
            yield from (k for k, account in account_store.items() if account.email == address)
        case RefreshCredential(digest):
            yield from (
                k
                for k, token in refresh_token_store.items()
                if k.endswith(f"/{digest}") and token.expires_at > datetime.now(UTC)
            )
        case KeyCredential(digest):
            yield from (
                k
                for k, stored in api_key_store.items()
                if stored.hash == digest and has_not_expired(stored.key)
            )
