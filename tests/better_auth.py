"""services/auth, the real Better Auth on Node, on the tests' PostgreSQL; and people who sign in there."""

import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.databases import DatabaseUrls, connected, url_of
from tests.processes import PASSWORD
from tests.servers import Program, start_program

ROOT = Path(__file__).parents[1]
ROLES_SQL = ROOT / "deploy/better-auth/roles.sql"
GRANTS_SQL = ROOT / "deploy/better-auth/grants.sql"
SCHEMA = "auth"
SESSION_TABLE = f"{SCHEMA}.session"
_SERVICE = ROOT / "services/auth"
_SERVE = 'export PORT="$1" BETTER_AUTH_URL="http://127.0.0.1:$1"; exec node "$0" serve'


@dataclass(frozen=True)
class Person:
    """Somebody who has signed in: what their app and their browser hold."""

    user_id: str
    email: str
    token: str = field(repr=False)
    cookie: str = field(repr=False)

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class Desk:
    """Where people sign in, at its URL; each comes from an address of their own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def sign_up(self, email: str | None = None) -> Person:
        email = email or f"{secrets.token_hex(6)}@example.com"
        body = {"email": email, "password": PASSWORD, "name": "Somebody"}
        return self._person(self._call("POST", "/sign-up/email", json=body))

    def sign_in(self, email: str) -> Person:
        return self._person(
            self._call("POST", "/sign-in/email", json={"email": email, "password": PASSWORD})
        )

    def sign_out(self, person: Person) -> None:
        self._call("POST", "/sign-out", headers=person.bearer)

    def jwt(self, person: Person) -> str:
        return str(self._call("GET", "/token", headers=person.bearer).json()["token"])

    def jwt_of_session(self, person: Person) -> str:
        return self._call("GET", "/get-session", headers=person.bearer).headers["set-auth-jwt"]

    def _person(self, answer: httpx.Response) -> Person:
        user = answer.json()["user"]
        cookie = answer.headers["set-cookie"].partition(";")[0]
        return Person(user["id"], user["email"], answer.headers["set-auth-token"], cookie)

    def _call(self, method: str, path: str, **request: Any) -> httpx.Response:
        address = f"10.{'.'.join(str(secrets.randbelow(256)) for _ in range(3))}"
        headers = request.pop("headers", {}) | {"X-Forwarded-For": address}
        url = f"{self.url}/api/auth{path}"
        answer = httpx.request(method, url, headers=headers, timeout=30, **request)
        assert 200 == answer.status_code, answer.text
        return answer


@dataclass(frozen=True)
class BetterAuth(Desk):
    """What Parley needs to know of it, and the URL of the role that owns its tables."""

    url: str
    secret: str = field(repr=False)
    owner_url: str = field(repr=False)


class Installation:
    """Better Auth's roles, schema and programs, in a database that Parley's roles have."""

    def __init__(self, database: DatabaseUrls) -> None:
        self._database = database
        run = secrets.token_hex(4)
        self.role, self.reader = f"parley_auth_{run}", f"parley_sessions_{run}"
        self._password = secrets.token_hex(16)
        self._reader_password = secrets.token_hex(16)
        self.secret = secrets.token_hex(32)

    @property
    def url(self) -> str:
        name = self._database.name
        return url_of(self._database.admin, name, user=self.role, password=self._password)

    @property
    def reader_url(self) -> str:
        """What Parley looks sessions up by."""
        login = {"user": self.reader, "password": self._reader_password}
        return url_of(self._database.admin, self._database.name, **login)

    async def make_roles(self, **changed: str) -> None:
        """Runs roles.sql; the database's administrator may then end the role's connections."""
        parameters = {
            "parley.auth": self.role,
            "parley.auth_password": self._password,
            "parley.reader": self.reader,
            "parley.reader_password": self._reader_password,
            "parley.owner": urlsplit(self._database.owner).username,
            "parley.api": urlsplit(self._database.api).username,
        }
        async with connected(self._database.admin) as connection:
            for name, value in (parameters | changed).items():
                await connection.execute("SELECT set_config($1, $2, false)", name, value)
            await connection.execute(ROLES_SQL.read_text())

    async def remove(self, admin_url: str | None = None) -> None:
        async with connected(admin_url or self._database.admin) as connection:
            both = f"{self.role}, {self.reader}"
            await connection.execute(f"DROP OWNED BY {both} CASCADE; DROP ROLE {both}")

    def migrate(self) -> dict[str, Any]:
        """What it said at the end."""
        done = subprocess.run(
            ["node", program(), "migrate"],
            env=self._environment
            | {
                "BETTER_AUTH_URL": "http://127.0.0.1",
                "PGOPTIONS": f"-c parley.reader={self.reader}",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        return dict(json.loads(done.stderr.splitlines()[-1]))

    @contextmanager
    def served(self, **variables: str) -> Generator[BetterAuth]:
        with ExitStack() as running:
            environment = self._environment | {"TRUSTED_PROXIES": "127.0.0.1"} | variables
            pairs = [f"{name}={value}" for name, value in environment.items()]
            serve = ["env", *pairs, "sh", "-c", _SERVE, str(program())]
            server = Program(serve, stop=signal.SIGTERM)
            port = start_program(running, server, ready=b'"event":"serving"')
            yield BetterAuth(f"http://127.0.0.1:{port}", self.secret, self.url)

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "BETTER_AUTH_SECRET": self.secret,
            "DATABASE_URL": self.url,
        }


def program() -> Path:
    """
    Raises:
        RuntimeError: no Node.js, or Better Auth is not installed; it says what to do.
    """
    if shutil.which("node") is None or not (_SERVICE / "node_modules/better-auth").exists():
        msg = (
            "The tests need Node.js 20.19 or later, and Better Auth in services/auth/node_modules:"
            " `make test` installs it, or `npm ci` in services/auth."
        )
        raise RuntimeError(msg)
    return _SERVICE / "src/main.js"
