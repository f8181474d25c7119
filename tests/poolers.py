"""A real PgBouncer in front of the tests' PostgreSQL, with the settings of deploy/pgbouncer."""
# What containers need is slow to import and seldom needed.
# ruff: noqa: PLC0415

import shutil
import signal
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.processes import free_port
from tests.servers import Program, docker_answers, start_container, start_program, unprivileged

_DEPLOYED = Path(__file__).parents[1] / "deploy/pgbouncer"
_IMAGE = "parley-tests-pgbouncer"
_READY = "process up"
# What is deployed, with a later value for some. Its last section goes on: to begin it again would
# be to forget what it said.
_INI = """
%include {deployed}
listen_addr = 127.0.0.1
auth_file = userlist.txt
default_pool_size = {server_connections}
listen_port = LISTEN
[databases]
* = host={host} port={port}
"""
_SERVE = """
printf '%s\n' "$0" >userlist.txt
printf '%s\n' "$1" | sed "s/LISTEN/$2/" >test.ini
exec pgbouncer test.ini
"""


@contextmanager
def pgbouncer(url: str, *, server_connections: int) -> Generator[str | None]:
    """Yields the URL that leads through it; None where there is neither Docker nor the program."""
    parts = urlsplit(url)
    login, _, _ = parts.netloc.rpartition("@")
    users = f'"{parts.username}" "{unquote(parts.password or "")}"'

    def arguments(deployed: str) -> list[str]:
        server = {"host": parts.hostname, "port": parts.port or 5432}
        ini = _INI.format(deployed=deployed, server_connections=server_connections, **server)
        return [users, ini]

    with ExitStack() as running:
        port = (
            docker_answers() and _container(running, arguments("/etc/pgbouncer/pgbouncer.ini"))
        ) or _program(running, arguments(f"{_DEPLOYED}/pgbouncer.ini"))
        yield parts._replace(netloc=f"{login}@127.0.0.1:{port}").geturl() if port else None


def _container(running: ExitStack, arguments: list[str]) -> int | None:
    from docker.errors import DockerException  # type: ignore[import-untyped]
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    port = free_port()
    container = DockerContainer(_IMAGE)
    # The host's network has PostgreSQL on its loopback, wherever that is from.
    container.with_kwargs(
        network_mode="host",
        entrypoint=["sh", "-c", _SERVE],
        working_dir="/tmp",  # noqa: S108 - the container's
        read_only=True,
        cap_drop=["ALL"],
    )
    container.with_tmpfs_mount("/tmp")  # noqa: S108
    container.with_command([*arguments, f"{port}"])
    container.waiting_for(LogMessageWaitStrategy(_READY))
    client = container.get_docker_client().client
    try:
        client.images.build(path=str(_DEPLOYED), tag=_IMAGE, rm=True)
    except (DockerException, OSError):
        client.close()
        return None
    return port if start_container(running, container) else None


def _program(running: ExitStack, arguments: list[str]) -> int | None:
    if shutil.which("pgbouncer") is None:
        return None
    serve = ["sh", "-c", _SERVE, *arguments]
    program = Program(serve, stop=signal.SIGINT, account=unprivileged())
    return start_program(running, program, ready=_READY.encode())
