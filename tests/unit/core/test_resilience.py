import socket
import sqlite3
import ssl
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine

from parley.core.errors import DatabaseUnavailable, Overloaded, TurnInProgress
from parley.core.resilience import Fault, as_app_error, classify, only_reads, sqlstate

STATES = {
    Fault.CONNECTION: [
        asyncpg.PostgresConnectionError,  # 08000
        asyncpg.ConnectionDoesNotExistError,  # 08003
        asyncpg.ConnectionFailureError,  # 08006
        asyncpg.InvalidAuthorizationSpecificationError,  # 28000
        asyncpg.InvalidPasswordError,  # 28P01
        asyncpg.InvalidCatalogNameError,  # 3D000
        asyncpg.AdminShutdownError,  # 57P01
        asyncpg.CrashShutdownError,  # 57P02
        asyncpg.CannotConnectNowError,  # 57P03
        asyncpg.TooManyConnectionsError,  # 53300
        asyncpg.ReadOnlySQLTransactionError,  # 25006
        asyncpg.IdleInTransactionSessionTimeoutError,  # 25P03
    ],
    Fault.BUSY: [
        asyncpg.QueryCanceledError,  # 57014
        asyncpg.LockNotAvailableError,  # 55P03
        asyncpg.DiskFullError,  # 53100
        asyncpg.OutOfMemoryError,  # 53200
    ],
    Fault.CONTENTION: [
        asyncpg.SerializationError,  # 40001
        asyncpg.DeadlockDetectedError,  # 40P01
    ],
    Fault.CALLER: [
        asyncpg.UniqueViolationError,  # 23505
        asyncpg.NotNullViolationError,  # 23502
        asyncpg.ForeignKeyViolationError,  # 23503
        asyncpg.CharacterNotInRepertoireError,  # 22021
        asyncpg.NumericValueOutOfRangeError,  # 22003
    ],
    Fault.BUG: [
        asyncpg.UndefinedTableError,  # 42P01
        asyncpg.InsufficientPrivilegeError,  # 42501
        asyncpg.PostgresSyntaxError,  # 42601
        asyncpg.InFailedSQLTransactionError,  # 25P02
        asyncpg.PostgresError,  # none
    ],
}
EVERY_STATE = [(fault, error) for fault, errors in STATES.items() for error in errors]


async def through_sqlalchemy(error: Exception) -> Exception:
    """What SQLAlchemy makes of an error that the driver raises as it connects."""

    async def connect(*_: object, **__: object) -> None:
        raise error

    engine = create_async_engine(
        "postgresql+asyncpg://host/name", connect_args={"async_creator_fn": connect}
    )
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which it is, the tests tell
        async with engine.connect():
            pass
    return caught.value


class TestPostgres:
    @pytest.mark.parametrize(("fault", "error"), EVERY_STATE)
    def test_the_drivers_error_is_known_by_its_state(
        self, fault: Fault, error: type[asyncpg.PostgresError]
    ):
        assert fault is classify(error("what it says is for people"))

    @pytest.mark.parametrize(("fault", "error"), EVERY_STATE)
    async def test_sqlalchemys_error_is_known_by_the_state_in_it(
        self, fault: Fault, error: type[asyncpg.PostgresError]
    ):
        wrapped = await through_sqlalchemy(error("what it says is for people"))

        assert isinstance(wrapped, DBAPIError)
        assert (error.sqlstate, fault) == (sqlstate(wrapped), classify(wrapped))

    @pytest.mark.parametrize(
        "error",
        [
            OSError("no route to host"),
            ConnectionRefusedError(111, "refused"),
            ConnectionResetError(104, "reset"),
            BrokenPipeError(32, "broken"),
            socket.gaierror(-2, "unknown"),
            TimeoutError(),
            ssl.SSLError(1, "handshake"),
        ],
        ids=lambda error: type(error).__name__,
    )
    async def test_what_the_network_raises_is_the_connections_fault(self, error: OSError):
        assert Fault.CONNECTION is classify(error)
        assert Fault.CONNECTION is classify(await through_sqlalchemy(error))

    async def test_a_connection_that_is_closed_is_the_connections_fault(self):
        closed = asyncpg.InterfaceError("cannot call Connection.fetch(): connection is closed")

        wrapped = await through_sqlalchemy(closed)

        assert isinstance(wrapped, DBAPIError)
        assert wrapped.connection_invalidated
        assert [Fault.CONNECTION] * 2 == [classify(closed), classify(wrapped)]

    def test_a_lost_connection_needs_no_state(self):
        lost = DBAPIError("SELECT 1", {}, Exception(), connection_invalidated=True)
        kept = DBAPIError("SELECT 1", {}, Exception(), connection_invalidated=False)

        assert [Fault.CONNECTION, Fault.BUG] == [classify(lost), classify(kept)]

    def test_a_state_says_more_than_a_lost_connection(self):
        canceled = DBAPIError(
            "SELECT 1", {}, asyncpg.QueryCanceledError(), connection_invalidated=True
        )

        assert Fault.BUSY is classify(canceled)

    def test_a_pool_without_a_free_connection_is_busy(self):
        assert Fault.BUSY is classify(PoolTimeout("QueuePool limit reached"))

    @pytest.mark.parametrize("error", [TurnInProgress(), ValueError("x"), KeyError("x")])
    def test_what_is_no_databases_is_a_bug_here(self, error: Exception):
        assert Fault.BUG is classify(error)

    async def test_a_server_that_was_failed_over_from_is_told_apart(self):
        wrapped = await through_sqlalchemy(asyncpg.ReadOnlySQLTransactionError("x"))

        assert only_reads(wrapped)

    @pytest.mark.parametrize("error", [ValueError("x"), sqlite3.OperationalError("x")])
    def test_others_have_no_state(self, error: Exception):
        assert sqlstate(error) is None


def busy(path: Path) -> None:
    first, second = sqlite3.connect(path), sqlite3.connect(path, timeout=0)
    try:
        first.execute("BEGIN IMMEDIATE")
        second.execute("BEGIN IMMEDIATE")
    finally:
        first.close()
        second.close()


def busy_snapshot(path: Path) -> None:
    """An extended code: what this transaction read was overwritten since."""
    first = sqlite3.connect(path, isolation_level=None)
    second = sqlite3.connect(path, isolation_level=None)
    try:
        first.execute("PRAGMA journal_mode=WAL")
        first.execute("BEGIN")
        first.execute("SELECT * FROM said").fetchall()
        second.execute("INSERT INTO said VALUES ('second')")
        first.execute("INSERT INTO said VALUES ('first')")
    finally:
        first.close()
        second.close()


def run(path: str, *statements: str, uri: bool = False) -> None:
    connection = sqlite3.connect(path, uri=uri)
    try:
        for statement in statements:
            connection.execute(statement)
    finally:
        connection.close()


def locked(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        reading = connection.execute("SELECT 1 UNION SELECT 2 UNION SELECT words FROM said")
        reading.fetchone()
        connection.execute("DROP TABLE said")
    finally:
        connection.close()


SQLITE: list[tuple[Fault, Callable[[Path], None]]] = [
    (Fault.BUSY, busy),
    (Fault.BUSY, busy_snapshot),
    (Fault.BUSY, locked),
    (Fault.BUSY, lambda path: run(f"file:{path}?mode=ro", "DELETE FROM said", uri=True)),
    (Fault.CONNECTION, lambda path: run(str(path.parent / "nowhere" / "x.db"))),
    (
        Fault.BUSY,
        lambda path: run(
            str(path), "PRAGMA max_page_count=2", "INSERT INTO said VALUES (zeroblob(1000000))"
        ),
    ),
    (Fault.CALLER, lambda path: run(str(path), "INSERT INTO said VALUES ('one'), ('one')")),
    (Fault.CALLER, lambda path: run(str(path), "INSERT INTO said VALUES (NULL)")),
    (Fault.BUG, lambda path: run(str(path), "SELECT * FROM nowhere")),
    (Fault.BUG, lambda path: run(str(path), "SELECT FROM WHERE")),
]


class TestSqlite:
    @pytest.mark.parametrize(("fault", "fail"), SQLITE)
    def test_an_error_is_known_by_its_code(
        self, fault: Fault, fail: Callable[[Path], None], tmp_path: Path
    ):
        run(str(tmp_path / "x.db"), "CREATE TABLE said (words TEXT NOT NULL UNIQUE)")

        with pytest.raises(sqlite3.Error) as caught:
            fail(tmp_path / "x.db")

        wrapped = DBAPIError("SELECT 1", {}, caught.value)
        assert [fault, fault] == [classify(caught.value), classify(wrapped)]

    def test_a_file_that_is_no_database_is_as_good_as_away(self, tmp_path: Path):
        (tmp_path / "x.db").write_bytes(b"not a database, and long enough to be read " * 30)

        with pytest.raises(sqlite3.DatabaseError) as caught:
            run(str(tmp_path / "x.db"), "SELECT * FROM sqlite_master")

        assert Fault.CONNECTION is classify(caught.value)

    def test_an_error_without_a_code_is_a_bug(self):
        assert Fault.BUG is classify(sqlite3.ProgrammingError("Cannot operate on a closed one"))


class TestAsAppError:
    @pytest.mark.parametrize(
        ("exception", "expected"),
        [
            (ConnectionRefusedError(), DatabaseUnavailable),
            (asyncpg.TooManyConnectionsError("x"), DatabaseUnavailable),
            (PoolTimeout("x"), Overloaded),
            (asyncpg.DiskFullError("x"), Overloaded),
            (asyncpg.DeadlockDetectedError("x"), Overloaded),
            (asyncpg.UniqueViolationError("x"), type(None)),
            (asyncpg.UndefinedTableError("x"), type(None)),
            (TurnInProgress(), type(None)),
        ],
    )
    def test_a_client_is_told_of_what_may_pass(self, exception: Exception, expected: type):
        assert expected is type(as_app_error(exception))

    def test_a_client_is_not_told_what_the_driver_said(self):
        error = as_app_error(asyncpg.DiskFullError("canary-4711"))

        assert error is not None
        assert "canary-4711" not in str(error.members)
