"""The Compose stack, under a project name of its own, and gone when the tests are."""

import json
import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
_PROJECT_LABEL = "com.docker.compose.project"
_PORTS = ("BACKEND_PORT", "BETTER_AUTH_PORT", "GRAFANA_PORT", "NGINX_PORT", "PROMETHEUS_PORT")
FILES = ("docker-compose.yml", "docker-compose.test.yml")

# Also after `kill -9` of the tests: it reads from a pipe that ends with them.
_WATCHDOG = """
import subprocess, sys
sys.stdin.read()
subprocess.run(sys.argv[1:], capture_output=True)
"""


class Stack:
    def __init__(
        self, *profiles: str, root: Path = ROOT, files: Sequence[str] = FILES, **variables: str
    ) -> None:
        self.project = f"parley-test-{secrets.token_hex(4)}"
        self.root = root
        named = [word for file in files for word in ("--file", file)]
        self._command = ["docker", "compose", "--project-name", self.project, *named]
        # As on a fresh clone: what a developer has set is theirs.
        known = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "TMPDIR")
        self.environment = {
            **{name: os.environ[name] for name in known if name in os.environ},
            "COMPOSE_DISABLE_ENV_FILE": "1",
            "COMPOSE_PROFILES": ",".join(profiles),
            **dict.fromkeys(_PORTS, "0"),
            # Nobody is limited, unless a test says so.
            **dict.fromkeys(("RATE_LIMIT_CHAT", "RATE_LIMIT_AUTH"), "10000/minute"),
            "STREAMS_MAX_PER_USER": "1000",
            **variables,
        }

    def compose(self, *words: str, check: bool = True) -> str:
        """What it printed on standard output; what it says of a failure is in the error."""
        done = subprocess.run(
            [*self._command, *words], cwd=self.root, env=self.environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            msg = f"docker compose {' '.join(words)} failed:\n{done.stderr}\n{done.stdout}"
            raise RuntimeError(msg)
        return done.stdout if check else done.stdout + done.stderr

    def make(self, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """As somebody types it who has this stack and no other."""
        given = {"COMPOSE": shlex.join(self._command), **variables}
        return subprocess.run(
            ["make", target, *(f"{name}={value}" for name, value in given.items())],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def up(self) -> None:
        self.compose("up", "--build", "--wait", "--quiet-pull")

    def turn_on(self, profile: str, **variables: str) -> None:
        """In a stack that is there already."""
        self.environment |= {"COMPOSE_PROFILES": profile, **variables}
        self.up()

    def url(self, service: str = "api", port: int = 8000) -> str:
        return f"http://{self.compose('port', service, str(port)).strip()}"

    def run_in(self, service: str, *command: str) -> str:
        return self.compose("exec", "--no-TTY", service, *command)

    def psql(
        self, query: str, *, url_file: str | None = None, of: str = "api", database: str = "parley"
    ) -> str:
        """As the superuser, or as whom a file of a service's secrets names."""
        target = ["--username=postgres", f"--dbname={database}"]
        if url_file is not None:
            url = self.run_in(of, "cat", f"/run/secrets/{url_file}").strip()
            target = [f"{url.removesuffix('/parley')}/{database}"]
        return self.run_in(
            "postgres", "psql", *target, "--no-psqlrc", "--tuples-only", "--no-align",
            "--set=ON_ERROR_STOP=1", f"--command={query}",
        ).strip()  # fmt: skip

    @contextmanager
    def in_transaction(self, statement: str) -> Generator[None]:
        """It was done as the superuser, and stays undecided; then it is undone."""
        psql = ("psql", "--username=postgres", "--dbname=parley", "--quiet", "--tuples-only")
        with subprocess.Popen(
            [*self._command, "exec", "--no-TTY", "postgres", *psql],
            cwd=ROOT, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as session:  # fmt: skip
            assert session.stdin is not None
            assert session.stdout is not None
            session.stdin.write(f"BEGIN; {statement}; SELECT 'done';\n")
            session.stdin.flush()
            assert "done" == session.stdout.readline().strip()
            try:
                yield
            finally:
                session.stdin.close()

    @contextmanager
    def another(self, service: str, volume: str, **variables: str) -> Generator[str]:
        """
        One more container of a service, with a volume at /full and settings of its own: what docker
        knows it by. Nobody but the test asks it.
        """
        settings = [word for name in variables for word in ("--env", f"{name}={variables[name]}")]
        publish = ["--publish", "127.0.0.1::8000"]
        container = self.compose(
            "run", "--detach", "--no-deps", *publish, "--volume", volume, *settings, service
        ).strip()
        try:
            yield container
        finally:
            docker("rm", "--force", "--volumes", container)

    def inspect(self) -> list[dict[str, Any]]:
        """Every container, also of the jobs that have ended."""
        ids = self.compose("ps", "--all", "--quiet").split()
        return list(json.loads(docker("inspect", *ids)))

    def container(self, service: str) -> dict[str, Any]:
        (found,) = [
            container
            for container in self.inspect()
            if container["Config"]["Labels"]["com.docker.compose.service"] == service
        ]
        return found

    @contextmanager
    def running(self) -> Generator["Stack"]:
        with self.removed():
            self.up()
            yield self

    @contextmanager
    def removed(self) -> Generator[None]:
        """Whatever there is of it in the end."""
        remove = [*self._command, "--profile", "*", "down", "--volumes", "--remove-orphans"]
        remove += ["--rmi", "local", "--timeout", "1"]
        with subprocess.Popen(
            [sys.executable, "-c", _WATCHDOG, *remove], cwd=self.root, env=self.environment,
            stdin=subprocess.PIPE, start_new_session=True,
        ):  # fmt: skip
            yield
        left = docker(
            "image", "ls", "--quiet", "--filter", f"label={_PROJECT_LABEL}={self.project}"
        )
        assert left == "", f"images of {self.project} are still there: {left}"


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


def status_of(url: str) -> int | None:
    """None where nobody answers."""
    try:
        return httpx.get(url, timeout=5).status_code
    except httpx.TransportError:
        return None
