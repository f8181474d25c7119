import asyncio
import signal
import socket

import typer
import uvicorn
from fastapi import FastAPI

from parley import __version__
from parley.core.settings import Settings
from parley.services.turns import LAST_WORDS_SECONDS, TurnRunner

# One line for a shell, good each time it is pasted: an account of its own, and a first message.
_CURL = (
    "token=$(curl -s URL/api/v1/auth/register -H 'Content-Type: application/json'"
    """ -d '{"email":"you-'$(date +%s)-$$'@example.com","password":"correct horse battery"}' """
    r"""| sed 's/.*"access_token":"\([^"]*\)".*/\1/'); """
    """curl -s URL/api/v1/me/chat -H "Authorization: Bearer $token" """
    """-H 'Content-Type: application/json' -d '{"message":"Hello"}' """
)


class PortTaken(Exception):
    """Another program listens where Parley should."""


class _Server(uvicorn.Server):
    """Says where it is once it answers, and lets turns end when it is told to stop."""

    def __init__(
        self, config: uvicorn.Config, runner: TurnRunner, *, grace_seconds: float
    ) -> None:
        super().__init__(config)
        self._runner = runner
        self._grace_seconds = grace_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            url = f"http://{self.config.host}:{self.config.port}"
            typer.echo(f"\nParley {__version__} is at {url} - try it at {url}/docs, or paste:\n")
            typer.echo(_CURL.replace("URL", url) + "\n")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Beside uvicorn's own waiting for connections: theirs end as their turns do.
        draining = asyncio.create_task(self._runner.stop(grace_seconds=self._grace_seconds))
        await super().shutdown(sockets)
        if self.force_exit:  # Ctrl-C a second time: with what there is
            draining.cancel()
            await self._runner.stop(grace_seconds=0)
        else:
            await draining


def run(application: FastAPI, settings: Settings, host: str) -> None:
    """
    Until SIGTERM or SIGINT, then as long as SHUTDOWN_GRACE_SECONDS allows.

    Raises:
        PortTaken: it cannot listen there.
    """
    try:
        listener = socket.create_server((host, settings.backend_port), backlog=2048)
    except OSError as error:
        msg = (
            f"Cannot listen on {host}:{settings.backend_port}: {error.strerror}."
            " Choose another port, for example BACKEND_PORT=8001, or another --host."
        )
        raise PortTaken(msg) from error
    config = uvicorn.Config(
        application,
        host=host,
        port=settings.backend_port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(settings.shutdown_grace_seconds + LAST_WORDS_SECONDS),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises it once more when it has shut down; by then all is done, and well.
        signal.signal(number, lambda *_: None)
    server = _Server(
        config, application.state.runner, grace_seconds=settings.shutdown_grace_seconds
    )
    server.run(sockets=[listener])
