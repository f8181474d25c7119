import socket

import typer
import uvicorn

from parley import __version__
from parley.core.settings import Settings
from parley.main import create_app

# One line for a shell, good each time it is pasted: an account of its own, and a first message.
_CURL = (
    "token=$(curl -s URL/api/v1/auth/register -H 'Content-Type: application/json'"
    """ -d '{"email":"you-'$(date +%s)'@example.com","password":"correct horse battery"}' """
    r"""| sed 's/.*"access_token":"\([^"]*\)".*/\1/'); """
    """curl -s URL/api/v1/me/chat -H "Authorization: Bearer $token" """
    """-H 'Content-Type: application/json' -d '{"message":"Hello"}' """
)


class PortTaken(Exception):
    """Another program listens where Parley should."""


class _Server(uvicorn.Server):
    """Says where it is once it answers, and not before."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            url = f"http://{self.config.host}:{self.config.port}"
            typer.echo(f"\nParley {__version__} is at {url} - try it at {url}/docs, or paste:\n")
            typer.echo(_CURL.replace("URL", url) + "\n")


def run(settings: Settings, host: str) -> None:
    """
    Raises:
        InvalidSettings: the API cannot start with these.
        PortTaken: it cannot listen there.
    """
    application = create_app(settings)
    try:
        listener = socket.create_server((host, settings.backend_port), backlog=2048)
    except OSError as error:
        msg = (
            f"Cannot listen on {host}:{settings.backend_port}: {error.strerror}."
            " Choose another port, for example BACKEND_PORT=8001."
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
        timeout_graceful_shutdown=int(settings.shutdown_grace_seconds),
    )
    _Server(config).run(sockets=[listener])
