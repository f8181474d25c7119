"""Processes that share PostgreSQL's connections through PgBouncer, transaction by transaction."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median

import asyncpg
import pytest
from httpx import AsyncClient
from sqlalchemy import text

from parley.core.database import create_engine
from parley.core.errors import DatabaseUnavailable
from parley.core.ids import new_id
from parley.crud.sql.store import SqlStore
from parley.models import Base
from parley.schemas.accounts import EmailCredential
from tests.conftest import SECRET
from tests.databases import DatabaseUrls
from tests.factories import make_account
from tests.poolers import pgbouncer
from tests.processes import Server
from tests.proxy import proxied
from tests.stores import TIMEOUT_SECONDS, patient_store, until_back

TRANSACTIONS = 5_000
USERS = 12
STRANGERS = 3
SERVER_CONNECTIONS = 4
BACK_SECONDS = 10
EMAIL = "ann@example.com"

OWNED = ["users", *(t.name for t in Base.metadata.sorted_tables if "user_id" in t.columns)]
# Asked in a transaction that has set nothing, in a server connection that others have just used.
LEFT_BEHIND = f"""
SELECT
  nullif(current_setting('app.user_id', true), '') AS user_id,
  nullif(current_setting('app.lookup', true), '') AS lookup,
  {" + ".join(f"(SELECT count(*) FROM {table})" for table in OWNED)} AS rows,
  (SELECT count(*) FROM pg_prepared_statements) AS statements,
  (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
  -- PgBouncer sets these two for each client.
  (SELECT array_agg(name) FROM pg_settings
   WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding')) AS settings
"""  # noqa: S608 - our own tables
# One that a client left in mid-statement is closed, and for a moment there beside its successor.
SEEN = """
SELECT
  array_agg(DISTINCT user_id) AS owners,
  (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user) AS server_connections
FROM messages
"""
TIME_LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
NOTHING = dict.fromkeys(("user_id", "lookup", "settings")) | dict.fromkeys(
    ("rows", "statements", "locks"), 0
)


@contextmanager
def pooled(url: str) -> Generator[str]:
    with pgbouncer(url, server_connections=SERVER_CONNECTIONS) as through:
        if through is None:
            pytest.skip("needs PgBouncer: Docker, or the program pgbouncer")
        yield through


@pytest.fixture
def pooled_url(postgres: DatabaseUrls) -> Generator[str]:
    with pooled(postgres.api) as url:
        yield url


@pytest.fixture
async def store(pooled_url: str) -> AsyncGenerator[SqlStore]:
    store = patient_store(pooled_url, pooler="transaction")
    yield store
    await store.close()


@asynccontextmanager
async def stranger(url: str) -> AsyncGenerator[asyncpg.Connection]:
    """Somebody else's client of the pooler, with the API's rights and none of its care."""
    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        yield connection
    finally:
        await connection.close()


class Load:
    """Users who talk to both processes by turns, while a stranger looks for what they leave."""

    def __init__(self) -> None:
        self.transactions = 0
        self.looks = 0
        self.errors: Counter[str] = Counter()
        self.leaks: list[object] = []
        self.server_connections: list[int] = []

    @property
    def is_enough(self) -> bool:
        return self.transactions >= TRANSACTIONS

    async def talk(
        self, user_id: str, headers: dict[str, str], clients: list[AsyncClient]
    ) -> None:
        """Until it is enough; everything that the user says is signed."""
        conversation_id, length = None, 0
        while not self.is_enough:
            here, there = clients if length % 4 else reversed(clients)
            said = {"message": user_id, "conversation_id": conversation_id}
            turn = await here.post("/api/v1/me/chat", json=said, headers=headers)
            if not self._is_answered(turn.status_code, transactions=2):
                continue
            conversation_id, length = turn.json()["conversation_id"], length + 2
            path = f"/api/v1/conversations/{conversation_id}/messages?order=desc&limit=4"
            page = await there.get(path, headers=headers)
            if not self._is_answered(page.status_code, transactions=1):
                continue
            messages = page.json()["items"]
            positions = [message["position"] for message in messages]
            is_whole = positions == list(range(length, max(0, length - 4), -1))
            if not is_whole or not all(user_id in message["content"] for message in messages):
                self.leaks.append(messages)

    def _is_answered(self, status: int, transactions: int) -> bool:
        self.transactions += transactions
        if status != 200:
            self.errors[f"{status}"] += 1
        return status == 200

    async def look(self, url: str, user_ids: list[str], store: SqlStore, alice: str) -> None:
        """Until it is enough: with no identity, with one and no filter, and through `resolve`."""
        async with stranger(url) as connection:
            while not self.is_enough:
                user_id = user_ids[self.looks % USERS]
                left = dict(await connection.fetchrow(LEFT_BEHIND))
                async with connection.transaction():
                    await connection.execute("SELECT set_config('app.user_id', $1, true)", user_id)
                    seen = dict(await connection.fetchrow(SEEN))
                self.server_connections.append(seen["server_connections"])
                resolved = await store.resolve(EmailCredential(EMAIL))
                self.looks += 1
                is_own = {user_id}.issuperset(seen["owners"] or ())
                if left != NOTHING or not is_own or resolved != alice:
                    self.leaks.append((left, seen, resolved))


class TestTwoProcesses:
    @pytest.mark.timeout(900)
    async def test_no_transaction_fails_or_sees_what_is_anothers(
        self,
        tmp_path: Path,
        pooled_url: str,
        store: SqlStore,
        alice: str,
        bearer,
        monkeypatch: pytest.MonkeyPatch,
    ):
        # Other tests cover what these processes run; here it would take as long again.
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        async with store.begin(alice) as tx:
            await tx.accounts.create(EMAIL, "hash")
        user_ids = [await make_account(store, str(new_id())) for _ in range(USERS)]
        variables = {
            "AUTH_SECRET": SECRET,
            "DATABASE_URL": pooled_url,
            "DATABASE_POOLER": "transaction",
            "DATABASE_POOL_SIZE": str(2 * USERS),  # who waits long for one of them is no error
            "LOG_LEVEL": "WARNING",
        }
        load = Load()
        with ExitStack() as running:
            servers = [running.enter_context(Server(tmp_path, **variables)) for _ in range(2)]
            async with (
                AsyncClient(base_url=servers[0].url, timeout=TIMEOUT_SECONDS * 6) as one,
                AsyncClient(base_url=servers[1].url, timeout=TIMEOUT_SECONDS * 6) as other,
                asyncio.TaskGroup() as tasks,
            ):
                for number, user_id in enumerate(user_ids):
                    clients = [one, other] if number % 2 else [other, one]
                    tasks.create_task(load.talk(user_id, bearer(user_id), clients))
                for _ in range(STRANGERS):
                    tasks.create_task(load.look(pooled_url, user_ids, store, alice))

        print(  # noqa: T201 - the figures; `pytest -s` shows them
            f"{load.transactions} transactions of {USERS} users in two processes,"
            f" over {median(load.server_connections)} server connections:"
            f" {load.errors.total()} errors, {len(load.leaks)} leaks in {load.looks} looks"
        )
        assert ({}, []) == (dict(load.errors), load.leaks[:3])
        logged = "".join(server.output for server in servers).splitlines()
        assert [] == [line for line in logged if line.startswith("{")]
        assert median(load.server_connections) <= SERVER_CONNECTIONS


class TestTimeLimits:
    async def test_they_are_in_force_within_a_transaction_and_not_beyond(self, pooled_url: str):
        engine = create_engine(pooled_url, pooler="transaction", timeout_seconds=30)
        async with engine.connect() as connection, stranger(pooled_url) as other:
            mine = [await connection.scalar(text(f"SHOW {name}")) for name in TIME_LIMITS]
            await connection.rollback()
            others = [await other.fetchval(f"SHOW {name}") for name in TIME_LIMITS]
        await engine.dispose()

        assert ["24s"] * 3 == mine
        assert ["0"] * 3 == others


class TestOutage:
    async def test_the_database_is_back_within_seconds_of_its_return(self, postgres: DatabaseUrls):
        """PgBouncer's own patience is longer by default."""
        async with proxied(postgres.api) as (proxy, url):
            with pooled(url) as through:
                engine = create_engine(through, pooler="transaction", timeout_seconds=3)
                store = SqlStore(engine, timeout_seconds=3)
                await store.ping()
                await proxy.refuse()
                for _ in range(6):
                    with pytest.raises(DatabaseUnavailable):
                        await store.ping()

                await proxy.serve()
                await until_back(store, BACK_SECONDS)
                await store.close()
