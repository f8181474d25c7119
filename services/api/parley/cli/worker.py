"""One process of the server: what it does with a signal, so that nobody's request is lost."""

import asyncio
import atexit
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import structlog
import typer
import uvicorn
from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from parley import __version__
from parley.cli.graces import LINGER_SECONDS, Graces
from parley.cli.protocol import BoundedProtocol
from parley.core.log_output import QueuedOutput
from parley.core.logging import frames_of, log_to
from parley.core.settings import Settings
from parley.services.turns.runner import TurnRunner

HEARTBEAT_SECONDS = 1.0
TICK_SECONDS = 0.1

log = structlog.get_logger(__name__)

# One line for a shell, good each time it is pasted: an account of its own, and a first message.
_CURL = (
    "token=$(curl -s URL/api/v1/auth/register -H 'Content-Type: application/json'"
    """ -d '{"email":"you-'$(date +%s)-$$'@example.com","password":"correct horse battery"}' """
    r"""| sed 's/.*"access_token":"\([^"]*\)".*/\1/'); """
    """curl -s URL/api/v1/me/chat -H "Authorization: Bearer $token" """
    """-H 'Content-Type: application/json' -d '{"message":"Hello"}' """
)


def _welcome(url: str, settings: Settings) -> str:
    where = f"\nParley {__version__} is at {url} - try it at {url}/docs"
    if "local" not in settings.auth_mode or settings.auth_registration == "closed":
        return f"{where}\n"
    return f"{where}, or paste:\n\n{_CURL.replace('URL', url)}\n"


class DrainingServer(uvicorn.Server):
    """
    Says that it is about to go, listens no more, and lets turns end.

    - SIGTERM: serves on as not ready for SHUTDOWN_ANNOUNCE_SECONDS, so that a balancer looks
      elsewhere; then stops listening, so that one that did not look is refused and tries another.
      SIGINT or SIGQUIT behind it: no more waiting.
    - SIGINT and SIGQUIT: the same without the announcement; SIGINT again: no more waiting.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        runner: TurnRunner,
        settings: Settings,
        *,
        welcome: str | None,
    ) -> None:
        super().__init__(config)
        self._runner = runner
        self._grace_seconds = settings.shutdown_grace_seconds
        self._announce_seconds = settings.shutdown_announce_seconds
        self._announces = False
        self._welcome = welcome

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not uvicorn's own, which sends itself the signal once more when all is done, and dies of it.
        if not self.should_exit:
            self.should_exit = True
            self._announces = sig == signal.SIGTERM
        elif sig == signal.SIGINT or (sig == signal.SIGQUIT and self._announces):
            # Behind Ctrl-C's SIGINT to the whole group, gunicorn's SIGQUIT says nothing new.
            self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._welcome is not None:
            typer.echo(self._welcome)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._announces:
            self._runner.announce_stop()
            await self._serve_on(self._announce_seconds)
        await self._stop_listening(sockets or [])
        if self._announces:
            await self._serve_on(LINGER_SECONDS)
        # Beside uvicorn's own waiting for connections: theirs end as their turns do.
        ending = asyncio.create_task(self._end_turns())
        await super().shutdown()
        await ending

    async def _serve_on(self, seconds: float, is_done: Callable[[], bool] = lambda: False) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until and not self.force_exit and not is_done():  # noqa: ASYNC110 - flags
            await asyncio.sleep(TICK_SECONDS)

    async def _end_turns(self) -> None:
        self._runner.let_go()
        # Also a request that is still being sent may begin its turn.
        await self._serve_on(
            self._grace_seconds,
            lambda: not self.server_state.connections and not self._runner.is_busy,
        )
        await self._runner.stop(grace_seconds=0)
        # For the last words to be sent, where uvicorn waits for nothing any more.
        await asyncio.sleep(TICK_SECONDS)

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """
        Refuse whom nobody has accepted yet, and only those.

        The kernel resets what waits in a socket's queue when it closes, and a proxy may not repeat
        what it has sent: so the queue is emptied here, up to the very moment of closing. Without a
        pause, or whom it serves meanwhile would come back and keep it from ending.
        """
        waiting: list[socket.socket] = []
        for listener, server in zip(sockets, self.servers, strict=True):
            # As many as there are; fewer where no more files may be opened.
            with suppress(OSError), listener.dup() as copy:
                server.close()
                for _ in range(self.config.backlog):
                    waiting.append(copy.accept()[0])  # noqa: PERF401 - those before an error count
            server.close()
        for connection in waiting:
            connection.setblocking(False)  # noqa: FBT003 - the socket's own way
            with suppress(OSError):
                await self._take(connection)

    async def _take(self, connection: socket.socket) -> None:
        config = self.config
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            ),
            connection,
        )


class Worker(UvicornWorker):  # type: ignore[misc]  # uvicorn-worker has no types
    """A uvicorn server under gunicorn, which forks it and holds its graces."""

    CONFIG_KWARGS = {  # noqa: RUF012 - as uvicorn-worker has it
        "http": BoundedProtocol,
        # Nothing here speaks WebSocket, whatever else is installed.
        "ws": "none",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
    }

    def init_process(self) -> None:
        output = QueuedOutput(sys.stderr.fileno())
        # Behind the last line, which is gunicorn's.
        atexit.register(output.close)
        log_to(output)
        try:
            super().init_process()
        except Exception as bug:  # noqa: BLE001 - gunicorn would print it, with all that it quotes
            log.error("worker-crashed", **frames_of(bug))
            sys.exit(1 if self.booted else Arbiter.WORKER_BOOT_ERROR)

    async def _serve(self) -> None:
        settings: Settings = self.app.settings
        self.config.app = self.wsgi
        self.config.timeout_graceful_shutdown = int(Graces.of(settings).uvicorn_seconds)
        # Ours beats, also while it drains.
        self.config.callback_notify = None
        server = DrainingServer(
            self.config,
            self.wsgi.state.runner,
            settings,
            welcome=_welcome(self.app.url, settings) if self.age == 1 and self.app.url else None,
        )
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGQUIT, server.handle_exit, signal.SIGQUIT, None)
        beating = asyncio.create_task(self._beat(server))
        # Not gunicorn's wrappers: uvloop closes what it is given.
        await server.serve(sockets=[listener.sock for listener in self.sockets])
        beating.cancel()
        if not server.started:
            # What keeps it from starting keeps the next one too: gunicorn is to end, not to try again.
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    async def _beat(self, server: DrainingServer) -> None:
        while True:
            self.notify()
            if os.getppid() != self.ppid:
                # Nobody is left to end this process or to start another.
                server.handle_exit(signal.SIGTERM, None)
            await asyncio.sleep(HEARTBEAT_SECONDS)
