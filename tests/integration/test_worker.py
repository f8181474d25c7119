"""The server's last moments, in this process."""

import errno
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvicorn

from parley.cli.worker import DrainingServer
from parley.core.settings import Settings
from parley.crud.memory.store import MemoryStore
from parley.main import create_app
from tests.conftest import SECRET
from tests.processes import until


@pytest.fixture
def settings() -> Settings:
    return Settings(auth_secret=SECRET, shutdown_announce_seconds=0, shutdown_grace_seconds=5)


class Rushed(DrainingServer):
    """Gets fifty connections in the very last moment, when its loop has no turn any more."""

    async def _serve_on(self, *how_long: object) -> None:
        await super()._serve_on(*how_long)
        if not hasattr(self, "clients"):
            self.clients = [socket.create_connection(self.address) for _ in range(50)]
            for client in self.clients:
                client.sendall(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")


def serving(settings: Settings, kind: type[DrainingServer] = DrainingServer) -> DrainingServer:
    app = create_app(settings, store=MemoryStore())
    config = uvicorn.Config(app, log_config=None, access_log=False)
    return kind(config, app.state.runner, settings, welcome=None)


def run_and_stop(server: DrainingServer, listener: socket.socket) -> None:
    with ThreadPoolExecutor() as thread:
        # Not the main thread: the signals stay pytest's.
        running = thread.submit(server.run, [listener])
        until(lambda: server.started or running.done())
        server.handle_exit(signal.SIGTERM, None)
        running.result(timeout=30)


class TestStopListening:
    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    def test_who_waits_in_the_queue_when_it_closes_is_answered(
        self, settings: Settings, loop: str
    ):
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        server = serving(settings, Rushed)
        server.config.loop = loop
        server.address = listener.getsockname()
        run_and_stop(server, listener)

        answers = [client.recv(100) for client in server.clients]
        assert {b"HTTP/1.1 200 OK"} == {answer.partition(b"\r\n")[0] for answer in answers}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.address, timeout=10)
        for client in server.clients:
            client.close()

    def test_a_full_table_of_files_does_not_keep_turns_from_being_ended(self, settings: Settings):
        class Full(DrainingServer):
            ended = False

            async def _end_turns(self) -> None:
                await super()._end_turns()
                self.ended = True

        class Listener(socket.socket):
            def dup(self) -> socket.socket:
                raise OSError(errno.EMFILE, "Too many open files")

        with socket.create_server(("127.0.0.1", 0)) as made:
            listener = Listener(fileno=made.detach())
        server = serving(settings, Full)
        run_and_stop(server, listener)
        assert server.ended


class TestSignals:
    @pytest.mark.parametrize(
        ("signals", "hurries"),
        [
            # As gunicorn repeats it, and as a whole group of processes gets it.
            ([signal.SIGTERM, signal.SIGTERM], False),
            # Ctrl-C, and what gunicorn makes of it.
            ([signal.SIGINT, signal.SIGQUIT], False),
            ([signal.SIGINT, signal.SIGQUIT, signal.SIGINT], True),
            # gunicorn, told to hurry, kills two seconds later.
            ([signal.SIGTERM, signal.SIGQUIT], True),
            ([signal.SIGTERM, signal.SIGINT], True),
            ([signal.SIGQUIT, signal.SIGQUIT], False),
        ],
    )
    def test_who_repeats_it_in_earnest_waits_no_more(
        self, settings: Settings, signals: list[signal.Signals], *, hurries: bool
    ):
        server = serving(settings)
        for number in signals:
            server.handle_exit(number, None)

        assert (True, hurries) == (server.should_exit, server.force_exit)
