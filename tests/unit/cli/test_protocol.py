"""An answer that is not read, by a clock of the test's; on sockets: integration/security/test_unread.py."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import uvicorn
from uvicorn.server import ServerState

from parley.cli.protocol import HEAD_SECONDS, LINGER_SECONDS, WRITE_STALL_SECONDS, BoundedProtocol
from parley.cli.serve import KEEP_ALIVE_SECONDS

POST = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(order=True)
class Timer:
    due_at: float
    call: Callable[[], None] = field(compare=False)
    cancel: Callable[[], None] = field(compare=False, default=lambda: None)


class Clock:
    """What a protocol asks of its loop; time passes when the test says so."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self._now = 0.0
        self.create_task = asyncio.get_running_loop().create_task

    def call_later(self, seconds: float, call: Callable[..., None], *args: object) -> Timer:
        timer = Timer(self._now + seconds, lambda: call(*args))
        timer.cancel = lambda: self.timers.remove(timer)
        self.timers.append(timer)
        return timer

    def pass_by(self, seconds: float) -> None:
        end = self._now + seconds
        while self.timers and min(self.timers).due_at <= end:
            timer = min(self.timers)
            self.timers.remove(timer)
            self._now = timer.due_at
            timer.call()
        self._now = end


class Connection(asyncio.Transport):
    """`left` is what its client has not taken."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 0
        self.is_reset = self.is_aborted = self._is_closing = False

    def get_write_buffer_size(self) -> int:
        return self.left

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self if name == "socket" else default

    def getsockname(self) -> None: ...

    def getpeername(self) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def write_eof(self) -> None: ...

    def setsockopt(self, *_: object) -> None:
        self.is_reset = True

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    def abort(self) -> None:
        self.is_aborted = True
        self.close()


async def nothing(_scope: object, _receive: object, send: Callable[..., Awaitable[None]]) -> None:
    """An application that answers with it, before it has read anything."""
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body"})


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
def connection() -> Connection:
    return Connection()


@pytest.fixture
async def protocol(clock: Clock, connection: Connection) -> BoundedProtocol:
    config = uvicorn.Config(app=nothing, log_config=None, timeout_keep_alive=KEEP_ALIVE_SECONDS)
    protocol = BoundedProtocol(
        config=config, server_state=ServerState(), app_state={}, _loop=clock
    )
    protocol.connection_made(connection)
    return protocol


class TestStall:
    async def test_who_takes_nothing_is_cut_off(
        self, protocol: BoundedProtocol, clock: Clock, connection: Connection
    ):
        connection.left = 100_000
        protocol.pause_writing()

        clock.pass_by(WRITE_STALL_SECONDS - 1)
        assert not connection.is_aborted
        clock.pass_by(1)
        assert (True, True) == (connection.is_aborted, connection.is_reset)
        protocol.connection_lost(None)
        assert [] == clock.timers

    async def test_who_takes_a_little_is_not_until_they_stop(
        self, protocol: BoundedProtocol, clock: Clock, connection: Connection
    ):
        connection.left = 100_000
        protocol.pause_writing()
        for _ in range(100):
            connection.left -= 1
            clock.pass_by(WRITE_STALL_SECONDS)
            assert not connection.is_aborted

        clock.pass_by(WRITE_STALL_SECONDS)
        assert connection.is_aborted

    async def test_who_has_taken_it_is_not_watched_until_there_is_more(
        self, protocol: BoundedProtocol, clock: Clock, connection: Connection
    ):
        connection.left = 100_000
        protocol.pause_writing()
        clock.pass_by(5)
        connection.left = 0
        protocol.resume_writing()
        connection.left = 100_000
        protocol.pause_writing()

        clock.pass_by(WRITE_STALL_SECONDS - 1)
        assert not connection.is_aborted
        clock.pass_by(1)
        assert connection.is_aborted

    async def test_a_connection_that_is_gone_leaves_no_timer(
        self, protocol: BoundedProtocol, clock: Clock, connection: Connection
    ):
        connection.left = 100_000
        protocol.pause_writing()
        protocol.connection_lost(None)

        assert [] == clock.timers

    async def test_the_rest_of_an_answer_does_not_keep_a_connection_from_closing(
        self, protocol: BoundedProtocol, clock: Clock, connection: Connection
    ):
        """Too little to pause the writing; a connection that closes sends it first."""
        connection.left = 1000
        clock.pass_by(HEAD_SECONDS)
        assert (True, False) == (connection.is_closing(), connection.is_aborted)

        connection.left = 500
        protocol.resume_writing()
        clock.pass_by(WRITE_STALL_SECONDS)
        assert not connection.is_aborted
        clock.pass_by(WRITE_STALL_SECONDS)
        assert connection.is_aborted

    @pytest.mark.parametrize(
        "requests",
        [
            pytest.param([b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"], id="the last one"),
            pytest.param([b"GARBAGE\r\n\r\n"], id="garbage"),
            pytest.param([POST, b"no chunk\r\n"], id="garbage behind the answer"),
        ],
    )
    async def test_nor_does_that_of_an_answer_that_ends_it(
        self,
        protocol: BoundedProtocol,
        clock: Clock,
        connection: Connection,
        requests: list[bytes],
    ):
        connection.left = 1000
        for request in requests:
            protocol.data_received(request)
            await asyncio.gather(*protocol.tasks)
        clock.pass_by(LINGER_SECONDS)
        assert (True, False) == (connection.is_closing(), connection.is_aborted)

        clock.pass_by(WRITE_STALL_SECONDS)
        assert connection.is_aborted

    async def test_nor_one_that_was_kept_for_another_request(
        self, protocol: BoundedProtocol, clock: Clock, connection: Connection
    ):
        connection.left = 1000
        protocol.timeout_keep_alive_handler()
        clock.pass_by(WRITE_STALL_SECONDS)

        assert connection.is_aborted

    async def test_one_with_nothing_left_is_only_closed(
        self, protocol: BoundedProtocol, clock: Clock, connection: Connection
    ):
        protocol.timeout_keep_alive_handler()
        clock.pass_by(10 * WRITE_STALL_SECONDS)

        assert (True, False) == (connection.is_closing(), connection.is_aborted)
