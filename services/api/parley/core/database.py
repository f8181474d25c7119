"""One way to make an engine, for the API, the migrations and the tests."""

from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, Literal, cast

import asyncpg
from sqlalchemy import URL, Connection, QueuePool, event, make_url
from sqlalchemy.engine.interfaces import AdaptedConnection, DBAPIConnection, ExceptionContext
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from parley.core.resilience import only_reads

Pooler = Literal["none", "transaction"]

_DRIVERS = {
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
}
# What pasted URLs have behind the question mark, in libpq's words.
_QUERY = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "channel_binding": ("disable", "prefer", "require"),
    "sslrootcert": ("system",),
}
_APPLICATION_NAME = "parley"
_TIME_LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
SERVER_SHARE_OF_TIME = 0.8
"""Of a request's time: after it PostgreSQL ends a statement itself, and so says that it is there."""
_IDLE_SECONDS = 1.0
_PING_SECONDS = 1.0
PORT_MAX = 65_535
POOL_WAIT_SECONDS = 2.0


def engine_url(url: str) -> URL:
    """
    A URL as people paste it, as SQLAlchemy wants it.

    Raises:
        ValueError: it is not one of PostgreSQL or SQLite. Never repeats the URL: it may
            carry a password.
    """
    scheme = url.partition("://")[0]
    if scheme not in _DRIVERS:
        msg = "must start with postgresql:// or sqlite:///"
        raise ValueError(msg)
    try:
        parsed = make_url(url).set(drivername=_DRIVERS[scheme])
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or not _is_complete(parsed):
        msg = "must look like postgresql://user:password@host:5432/name or sqlite:///path/file.db"
        raise ValueError(msg)
    if not all(_is_taken(parsed, name, value) for name, value in parsed.query.items()):
        msg = (
            "must have nothing behind the ? but sslmode, channel_binding, sslrootcert=system or a"
            " socket's host=/folder"
        )
        raise ValueError(msg)
    if "sslrootcert" in parsed.query and parsed.query.get("sslmode") != "verify-full":
        msg = "must have sslmode=verify-full beside sslrootcert=system"
        raise ValueError(msg)
    return parsed


def is_of_neon_pooler(url: URL) -> bool | None:
    """As its host says, `ep-…-pooler` or `ep-…`; None where it is not one of Neon's."""
    endpoint = (url.host or "").partition(".")[0]
    return endpoint.endswith("-pooler") if endpoint.startswith("ep-") else None


def _is_taken(url: URL, name: str, value: str | tuple[str, ...]) -> bool:
    if url.get_backend_name() == "sqlite":
        return False
    is_socket = name == "host" and isinstance(value, str) and value.startswith("/")
    return is_socket or value in _QUERY.get(name, ())


def _is_complete(url: URL) -> bool:
    """As far as the driver would find out only when it connects."""
    if url.get_backend_name() == "sqlite":
        # Another connection's memory is another database.
        return url.host is None and url.database not in (None, "", ":memory:")
    # An @ that is not quoted makes a part of the password the host.
    return "@" not in (url.host or "") and (url.port is None or 0 < url.port <= PORT_MAX)


def for_reading(engine: AsyncEngine) -> AsyncEngine:
    """The same connections; each transaction only reads, and sees one moment throughout."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(sqlite_readonly=True)
    return engine.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")


def connections_of(engine: AsyncEngine) -> int:
    """How many it may have open."""
    pool = cast("QueuePool", engine.pool)
    return pool.size() + pool._max_overflow  # noqa: SLF001 - SQLAlchemy tells it nowhere else


def create_engine(
    url: str,
    *,
    pool_size: int = 10,
    pool_overflow: int = 0,
    pooler: Pooler = "none",
    timeout_seconds: float = 3,
) -> AsyncEngine:
    """
    Opens nothing yet.

    `hide_parameters`: what a statement carried, a user's words, never reaches a log.
    """
    engine = _engine(engine_url(url), pool_size, pool_overflow, pooler, timeout_seconds)

    @event.listens_for(engine.sync_engine, "handle_error")
    def let_go(context: ExceptionContext) -> None:
        if only_reads(context.original_exception):
            # Its connections stay so, also when the server is another or the file writable again.
            context.is_disconnect = True

    return engine


def _engine(
    parsed: URL, pool_size: int, pool_overflow: int, pooler: Pooler, timeout_seconds: float
) -> AsyncEngine:
    pool: dict[str, object] = {
        "pool_size": pool_size,
        "max_overflow": pool_overflow,
        "pool_timeout": min(POOL_WAIT_SECONDS, timeout_seconds),
        "hide_parameters": True,
    }
    if parsed.get_backend_name() == "sqlite":
        return _create_sqlite(parsed, pool, timeout_seconds)
    return _create_postgres(parsed, pool, pooler, timeout_seconds)


class _PromptConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """
    Goes without waiting when it is told to hurry.

    SQLAlchemy gives a connection that it gives up on two seconds to say goodbye; a frozen server
    would take them, beyond the request's deadline.
    """

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's
        if timeout is None:
            await super().close()
        else:
            self.terminate()


def _create_postgres(
    url: URL, pool: dict[str, object], pooler: Pooler, timeout_seconds: float
) -> AsyncEngine:
    # libpq's words for what asyncpg calls otherwise: a pasted URL has them. True is the system's CAs; of
    # its own accord asyncpg verifies with no more than the CA in a file of one's home.
    ssl = "sslrootcert" in url.query or url.query.get("sslmode")
    # Before the request's own deadline: a slow statement is told from a server that is away.
    milliseconds = str(int(timeout_seconds * SERVER_SHARE_OF_TIME * 1000))
    limits = dict.fromkeys(_TIME_LIMITS, milliseconds)
    engine = create_async_engine(
        url.difference_update_query(_QUERY),
        connect_args={
            "timeout": timeout_seconds,
            "command_timeout": timeout_seconds,
            **(_of_a_transaction(limits) if pooler == "transaction" else _of_a_session(limits)),
            **({"ssl": ssl} if ssl else {}),
        },
        **pool,
    )
    _ping_the_idle(engine)
    return engine


def _of_a_session(limits: dict[str, str]) -> dict[str, object]:
    return {
        "connection_class": _PromptConnection,
        "server_settings": {"application_name": _APPLICATION_NAME, **limits},
    }


def _of_a_transaction(limits: dict[str, str]) -> dict[str, object]:
    """For a pooler that hands a session, with all that was left in it, to another client."""
    set_limits = "".join(f"SET LOCAL {name} = {value};" for name, value in limits.items())

    class Connection(_PromptConnection):
        async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - asyncpg's
            # In one message with BEGIN, which asyncpg sends through here, they cost no round trip.
            if query.startswith("BEGIN"):
                query += set_limits
            return str(await super().execute(query, *args, timeout=timeout))

    return {
        "connection_class": Connection,
        "server_settings": {"application_name": _APPLICATION_NAME},
        # Without caches a statement has no name, and is gone with the next one. A unique name, as
        # SQLAlchemy's pages advise, stays in the server: its end is sent with a later transaction,
        # to whichever server connection that has.
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    }


def _ping_the_idle(engine: AsyncEngine) -> None:
    """
    Find out that a connection is lost before a request does, where it was idle long enough for it.

    SQLAlchemy's own `pool_pre_ping` asks each time, in three round trips, and on a frozen server
    waits once more after the request's deadline.
    """

    @event.listens_for(engine.sync_engine, "checkin")
    def note(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def ping(
        connection: AdaptedConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection
    ) -> None:
        if monotonic() - record.info.get("idle_since", monotonic()) < _IDLE_SECONDS:
            return
        try:
            connection.run_async(lambda driver: driver.execute("SELECT 1", timeout=_PING_SECONDS))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as lost:
            # The pool then takes another, or a new one.
            raise DisconnectionError from lost


def _create_sqlite(url: URL, pool: dict[str, object], timeout_seconds: float) -> AsyncEngine:
    database = Path(str(url.database))
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Everybody's words are in it: one that is new is its owner's alone, and what SQLite puts beside it as
    # it is. Who may not make it here is told so on connecting.
    with suppress(OSError):
        database.touch(mode=0o600, exist_ok=False)
    engine = create_async_engine(
        url, connect_args={"timeout": min(POOL_WAIT_SECONDS, timeout_seconds)}, **pool
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # The driver's own BEGIN comes too late and is the wrong one; `begin` says it.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # A plain BEGIN that reads before it writes loses to any writer in between.
        read_only = connection.get_execution_options().get("sqlite_readonly")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
