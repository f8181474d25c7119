"""Parley as a process of its own, as a user starts it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import httpx

START_SECONDS = 180  # `make run` on a fresh clone installs before it serves
PATIENCE_SECONDS = 60
SLOW_SERVER = (sys.executable, str(Path(__file__).parent / "e2e/slow_server.py"))
PASSWORD = "correct horse battery staple"
# By themselves they give up after five seconds: on a busy machine a password takes as long.
get, post, options = (
    partial(ask, timeout=PATIENCE_SECONDS) for ask in (httpx.get, httpx.post, httpx.options)
)


def until(holds: Callable[[], object], *, seconds: float = PATIENCE_SECONDS) -> float:
    """Returns the seconds that it took."""
    began_at = time.monotonic()
    while not holds():
        assert time.monotonic() - began_at < seconds
        time.sleep(0.05)
    return time.monotonic() - began_at


def kept_port() -> tuple[socket.socket, int]:
    """
    A free port that nobody else is given while the socket is there. Who asks for it by its number,
    and for a port that may be used again, as servers do, gets it.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    return keeper, int(keeper.getsockname()[1])


def free_port() -> int:
    keeper, port = kept_port()
    keeper.close()
    return port


class Server:
    """
    `command` serves on BACKEND_PORT, or on what is put for its word PORT, from `folder`; what it
    prints is in `output`.

    `kill` is kill -9, `stop` is SIGTERM; leaving the context stops what still runs.
    """

    made: ClassVar[list[Self]] = []
    """All of them."""

    def __init__(self, folder: Path, *command: str, **variables: str) -> None:
        # Also while it starts, which takes seconds, and between two starts: others ask for free ones.
        self._keeper, self.port = kept_port()
        if sys.platform != "linux":
            self._keeper.close()  # there the server itself would not get it either
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._command = [
            word.replace("PORT", str(self.port))
            for word in command or (sys.executable, "-m", "parley.cli", "serve")
        ]
        self.variables = variables
        self.log = folder / f"server-{self.port}.log"
        self.made.append(self)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> str:
        return self.log.read_text()

    def has_logged_since(self, moment: float) -> bool:
        return self.log.exists() and self.log.stat().st_mtime >= moment

    def start(self, *, stderr: int | None = None) -> Self:
        """What it logs goes to `stderr` instead, if there is one."""
        # Nobody is to look elsewhere, nobody is limited, and no busy machine is a database that is
        # away or a model that has fallen silent, unless a test says so. What may be logged is.
        ours = {
            "BACKEND_PORT": str(self.port),
            "DATABASE_TIMEOUT_SECONDS": "30",
            "MODEL_TIMEOUT_SECONDS": "600",
            "LOG_LEVEL": "DEBUG",
            "SHUTDOWN_ANNOUNCE_SECONDS": "0",
            "RATE_LIMIT_CHAT": "10000/minute",
            "RATE_LIMIT_AUTH": "10000/minute",
        }
        environment = os.environ | ours | self.variables
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=environment, stdout=log, stderr=stderr or log,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                msg = f"The server did not start:\n{self.output}"
                raise RuntimeError(msg)
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        try:
            return get(f"{self.url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def kill_first(self) -> None:
        """Kill -9, to the first process alone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def begin_to_stop(self) -> None:
        """What `docker stop` does: SIGTERM, to the first process alone."""
        assert self._process is not None
        self._process.terminate()

    def start_again(self) -> None:
        """What gunicorn takes for a wish to be replaced by a new one of itself."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR2)

    def workers(self) -> set[int]:
        assert self._process is not None
        pid = self._process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def interrupt(self) -> None:
        """Ctrl-C."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGINT)

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(timeout=PATIENCE_SECONDS)

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, how)
        return self.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._keeper.close()


@contextmanager
def account(url: str, email: str = "ann@example.com") -> Generator[httpx.Client]:
    """A client of somebody who has just registered, or logged in again."""
    credentials = {"email": email, "password": PASSWORD}
    auth = f"{url}/api/v1/auth"
    session = post(f"{auth}/register", json=credentials)
    if session.status_code == 409:
        session = post(f"{auth}/login", json=credentials)
    assert session.is_success, session.text
    headers = {"Authorization": f"Bearer {session.json()['access_token']}"}
    with httpx.Client(
        base_url=f"{url}/api/v1", headers=headers, timeout=PATIENCE_SECONDS
    ) as client:
        yield client


def say(client: httpx.Client, message: str, conversation_id: str | None = None) -> dict[str, Any]:
    body = {"message": message, "conversation_id": conversation_id}
    reply = client.post("/me/chat", json=body)
    assert 200 == reply.status_code, reply.text
    return dict(reply.json())
