"""The commands as an operator types them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from parley.crud.ports import SCHEMA_REVISION
from tests.databases import DatabaseUrls
from tests.processes import PASSWORD, Server, account, get, post, until

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def parley(*command: str, typed: str = "", **variables: str):
        return subprocess.run(
            [sys.executable, "-m", "parley.cli", *command], cwd=tmp_path, env=os.environ | variables,
            input=typed, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return parley


@pytest.fixture
def server(tmp_path: Path, sqlite_url: str) -> Generator[Server]:
    with Server(tmp_path, DATABASE_URL=sqlite_url) as server:
        yield server


class TestUserCreate:
    def test_the_account_can_log_in(self, run: Run, server: Server, sqlite_url: str):
        create = ("user", "create", "Ann@Example.com", "--password-stdin", "--json")
        created = run(*create, typed=f"{PASSWORD}\n", DATABASE_URL=sqlite_url)

        assert 0 == created.returncode, created.stderr
        credentials = {"email": "ann@example.com", "password": PASSWORD}
        session = post(f"{server.url}/api/v1/auth/login", json=credentials)
        assert json.loads(created.stdout) == session.json()["user"]

        again = run(*create, typed=f"{PASSWORD}\n", DATABASE_URL=sqlite_url)
        assert (1, "") == (again.returncode, again.stdout)
        assert "Log in instead" in again.stderr

    def test_what_is_no_account_is_refused_line_by_line(self, run: Run, sqlite_url: str):
        refused = run("user", "create", "ann", "--password-stdin", typed="short\n",
                      DATABASE_URL=sqlite_url)  # fmt: skip

        assert 1 == refused.returncode
        assert ["email", "password"] == [
            line.partition(":")[0] for line in refused.stderr.splitlines()
        ]
        assert "short" not in refused.stderr.partition("password")[2]

    @pytest.mark.parametrize(
        "command",
        [
            ("user", "create", "ann@example.com", "--password-stdin"),
            ("user", "reset-password", "ann@example.com", "--password-stdin"),
            ("key", "create", "ann@example.com", "--name", "x"),
        ],
    )
    def test_nothing_is_made_that_the_api_would_not_believe(
        self, run: Run, sqlite_url: str, command: tuple[str, ...]
    ):
        typed = f"{PASSWORD}\n"
        assert 0 == run(
            "user", "create", "ann@example.com", "--password-stdin", typed=typed,
            DATABASE_URL=sqlite_url,
        ).returncode  # fmt: skip
        refused = run(*command, typed=typed, DATABASE_URL=sqlite_url, AUTH_MODE="jwks")

        assert (1, "") == (refused.returncode, refused.stdout)
        assert refused.stderr.startswith("AUTH_MODE: has no `local`")

    def test_without_a_terminal_it_says_how_to_give_the_password(self, run: Run, sqlite_url: str):
        refused = run("user", "create", "ann@example.com", typed="", DATABASE_URL=sqlite_url)

        assert 1 == refused.returncode
        assert "--password-stdin" in refused.stderr
        assert 1 == len(refused.stderr.splitlines())


class TestUser:
    """Beside a server that goes on: it sees what was done as soon as it asks the store."""

    def test_a_disabled_account_cannot_be_used_until_it_is_enabled(
        self, run: Run, server: Server, sqlite_url: str
    ):
        def log_in() -> int:
            credentials = {"email": "ann@example.com", "password": PASSWORD}
            return post(f"{server.url}/api/v1/auth/login", json=credentials).status_code

        with account(server.url) as ann:
            disabled = run("user", "disable", "ANN@example.com", DATABASE_URL=sqlite_url)
            assert 0 == disabled.returncode, disabled.stderr
            assert '"account-disabled"' in disabled.stderr
            assert 401 == log_in()
            until(lambda: ann.get("/conversations").status_code == 401)

        run("user", "enable", "ann@example.com", DATABASE_URL=sqlite_url)
        assert 200 == log_in()

    def test_a_new_password_replaces_the_old_one(self, run: Run, server: Server, sqlite_url: str):
        new = "another horse, another staple"
        with account(server.url):
            reset = run("user", "reset-password", "ann@example.com", "--password-stdin", "--json",
                        typed=f"{new}\n", DATABASE_URL=sqlite_url)  # fmt: skip

        assert 0 == reset.returncode, reset.stderr
        assert True is json.loads(reset.stdout)["password_reset"]
        answers = [
            post(
                f"{server.url}/api/v1/auth/login",
                json={"email": "ann@example.com", "password": password},
            ).status_code
            for password in (PASSWORD, new)
        ]
        assert [401, 200] == answers
        assert new not in reset.stderr

    def test_deleting_asks_first(self, run: Run, sqlite_url: str):
        create = ("user", "create", "ann@example.com", "--password-stdin")
        run(*create, typed=f"{PASSWORD}\n", DATABASE_URL=sqlite_url)
        delete = ("user", "delete", "ann@example.com")

        answers = [run(*delete, typed=typed, DATABASE_URL=sqlite_url) for typed in ("n\n", "y\n")]

        assert [1, 0] == [answer.returncode for answer in answers]
        again = run(*delete, "--yes", DATABASE_URL=sqlite_url)
        assert (1, "") == (again.returncode, again.stdout)
        assert "No account has the address ann@example.com." in again.stderr


class TestKeyCreate:
    def test_the_key_speaks_for_the_account(self, run: Run, server: Server, sqlite_url: str):
        with account(server.url) as ann:
            create = ("key", "create", "ann@example.com", "--name", "import")
            made = run(*create, DATABASE_URL=sqlite_url)
            key = made.stdout.strip()
            me = get(f"{server.url}/api/v1/auth/me", headers={"Authorization": f"Bearer {key}"})
            assert ann.get("/auth/me").json() == me.json()
            assert key not in made.stderr
            (listed,) = ann.get("/auth/keys").json()["items"]
        assert ("import", None) == (listed["name"], listed["expires_at"])

        lasting = run(*create, "--expires-in-days", "3", "--json", DATABASE_URL=sqlite_url)
        assert json.loads(lasting.stdout)["expires_at"]


class TestDoctor:
    def test_all_that_is_well_is_said_in_a_line_each(
        self, run: Run, postgres: DatabaseUrls, redis_url: str
    ):
        variables = {"DATABASE_URL": postgres.api, "REDIS_URL": redis_url}
        examined: list[subprocess.CompletedProcess[str]] = []

        def is_well() -> bool:
            examined.append(run("doctor", **variables))
            return examined[-1].returncode == 0

        # Redis has a fifth of a second for its answer, be the machine as busy as it likes: the one
        # that was well is looked at, for the next one need not be.
        until(is_well)
        *_, healthy = examined

        assert [
            *("settings", "database", "clock", "schema", "indexes", "writing"),
            *("redis", "files", "model"),
        ] == [line.split()[1] for line in healthy.stdout.splitlines()]
        assert SCHEMA_REVISION in healthy.stdout
        password = postgres.api.split(":")[2].split("@")[0]
        assert password not in healthy.stdout + healthy.stderr

    @pytest.mark.parametrize("command", [("doctor",), ("files", "sweep", "--yes")])
    def test_no_other_process_is_told_what_a_command_counts(
        self, run: Run, tmp_path: Path, sqlite_url: str, command: tuple[str, ...]
    ):
        """The image says where servers do, and that folder is theirs to make."""
        counts = tmp_path / "counts"
        done = run(*command, DATABASE_URL=sqlite_url, PROMETHEUS_MULTIPROC_DIR=str(counts))

        assert 0 == done.returncode, done.stderr
        assert not counts.exists()

    def test_what_is_wrong_is_named_with_what_to_do(self, run: Run, tmp_path: Path):
        nowhere = "postgresql://ann:canary@127.0.0.1:1/x"
        ill = run("doctor", "--json", DATABASE_URL=nowhere, REDIS_URL="redis://127.0.0.1:1/0")

        assert 1 == ill.returncode
        assert {
            "settings": True,
            "database": False,
            "redis": False,
            "files": True,
            "model": True,
        } == {finding["name"]: finding["ok"] for finding in json.loads(ill.stdout)}
        assert "canary" not in ill.stdout + ill.stderr


class TestPlainWords:
    @pytest.mark.parametrize(
        "command", [("migrate",), ("doctor",), ("user", "create", "ann@x", "--password-stdin")]
    )
    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://ann:canary@127.0.0.1:1/x",
            "sqlite:////proc/nowhere/x.db",
            "sqlite:///no-database",
            "sqlite:///not-migrated.db",
        ],
    )
    def test_a_database_that_cannot_be_used_is_said_in_a_line_or_two(
        self, run: Run, tmp_path: Path, command: tuple[str, ...], url: str
    ):
        (tmp_path / "no-database").write_bytes(b"no database, and long enough to be read " * 99)
        (tmp_path / "not-migrated.db").touch()
        done = run(*command, typed=f"{PASSWORD}\n", DATABASE_URL=url)

        assert done.returncode == (0 if command == ("migrate",) and "migrated" in url else 1)
        assert "Traceback" not in done.stderr
        assert "canary" not in done.stdout + done.stderr
        assert len(done.stderr.splitlines()) <= 3


class TestChat:
    def test_a_conversation_in_the_terminal_and_going_on_with_it(self, run: Run, server: Server):
        where = {"BACKEND_PORT": str(server.port)}
        first = run("chat", "--email", "ann@example.com",
                    typed=f"{PASSWORD}\ny\nhello there\n/new\n\nanother\n/quit\n", **where)  # fmt: skip
        assert 0 == first.returncode, first.stderr
        assert "You said: hello there" in first.stdout
        assert "You said: another\nI remember nothing yet." in first.stdout

        second = run("chat", "--email", "ann@example.com", "--last",
                     typed=f"{PASSWORD}\nand?\n", **where)  # fmt: skip
        assert 0 == second.returncode, second.stderr
        assert "I remember 2 earlier messages; you last said: another." in second.stdout

    def test_a_url_may_end_in_a_slash_and_has_a_scheme(self, run: Run, server: Server):
        chat = ("chat", "--email", "ann@example.com", "--url")
        reached = run(*chat, f"{server.url}/", typed=f"{PASSWORD}\ny\nhello\n")
        assert "You said: hello" in reached.stdout, reached.stderr

        refused = run(*chat, server.url.removeprefix("http://"), typed=f"{PASSWORD}\n")
        assert 1 == refused.returncode
        assert "begin it with http:// or https://" in refused.stderr

    def test_what_is_wrong_with_a_password_is_all_that_is_said(self, run: Run, server: Server):
        chat = ("chat", "--email", "ann@example.com", "--url", server.url)
        refused = run(*chat, typed="short\ny\n")

        assert "password: Must have at least 12 characters." in refused.stderr
        assert "errors" not in refused.stderr

    def test_a_wrong_password_is_said_plainly(self, run: Run, server: Server):
        where = {"BACKEND_PORT": str(server.port)}
        wrong = run("chat", "--email", "ann@example.com", typed=f"{PASSWORD}\nn\n", **where)
        assert 1 == wrong.returncode
        assert "Wrong e-mail address or password" in wrong.stdout + wrong.stderr
        assert "Traceback" not in wrong.stderr


class TestUvicorn:
    def test_the_application_is_where_developers_look_for_it(
        self, tmp_path: Path, sqlite_url: str
    ):
        command = (
            sys.executable,
            "-m",
            "uvicorn",
            "parley.main:app",
            "--reload",
            "--port",
            "PORT",
        )
        with Server(tmp_path, *command, DATABASE_URL=sqlite_url) as server:
            assert 200 == get(f"{server.url}/health/ready").status_code

    def test_bad_settings_are_a_line_each_there_too(self, tmp_path: Path):
        refused = subprocess.run(
            [sys.executable, "-m", "uvicorn", "parley.main:app"], cwd=tmp_path,
            env=os.environ | {"BACKEND_PORT": "no"}, capture_output=True, text=True, check=False,
        )  # fmt: skip

        assert refused.returncode != 0
        assert ["BACKEND_PORT"] == [
            line.partition(":")[0] for line in refused.stderr.strip().splitlines()
        ]
