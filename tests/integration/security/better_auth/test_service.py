"""services/auth itself, on the network and with its settings."""

import json
import os
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.better_auth import BetterAuth, Installation, Person, program
from tests.poolers import pgbouncer
from tests.processes import PASSWORD, get, options, post

PAGE = "https://chat.example.com"


def sign_in(url: str, person: Person, password: str, address: str) -> httpx.Response:
    body = {"email": person.email, "password": password}
    headers = {"X-Forwarded-For": address}
    return post(f"{url}/api/auth/sign-in/email", json=body, headers=headers)


class TestGuesses:
    def test_one_address_may_make_three_and_others_are_not_locked_out(
        self, better_auth: BetterAuth, ann: Person
    ):
        """Row 19; the count is in the database, so that several servers share it."""
        statuses = [
            sign_in(better_auth.url, ann, "wrong horse", "192.0.2.1").status_code for _ in range(4)
        ]

        assert [401, 401, 401, 429] == statuses
        assert 200 == sign_in(better_auth.url, ann, PASSWORD, "192.0.2.2").status_code

    def test_a_forwarded_address_counts_only_from_a_trusted_proxy(
        self, installation: Installation
    ):
        """Row 25."""
        with installation.served(TRUSTED_PROXIES="192.0.2.0/24") as server:
            person = Person("", "nobody@example.com", "", "")
            statuses = [
                sign_in(server.url, person, "wrong horse", f"198.51.100.{n}").status_code
                for n in range(4)
            ]

        assert [401, 401, 401, 429] == statuses


class TestRequests:
    # The second is sent in chunks.
    @pytest.mark.parametrize("body", [b"x" * 65_537, [b"x" * 32_768] * 3])
    def test_a_large_body_is_refused(self, better_auth: BetterAuth, body: bytes | list[bytes]):
        """Row 50."""
        answer = post(
            f"{better_auth.url}/api/auth/sign-up/email",
            content=body,
            headers={"Content-Type": "application/json"},
        )

        assert 413 == answer.status_code

    def test_a_body_without_end_is_refused_while_it_comes(self, better_auth: BetterAuth):
        """Row 50: no more of it is kept than is allowed."""
        address = urlsplit(better_auth.url)
        head = f"POST /api/auth/sign-up/email HTTP/1.1\r\nHost: {address.netloc}\r\n"
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n10001\r\n".encode())
            connection.sendall(b"x" * 0x10001)

            assert b"HTTP/1.1 413 " == connection.recv(13)

    @pytest.mark.parametrize("path", ["/", "/api", "/api/auth", "/api/auth/%zz", "//api/auth/ok"])
    def test_there_is_nothing_else(self, better_auth: BetterAuth, path: str):
        assert 404 == get(f"{better_auth.url}{path}").status_code

    def test_what_a_client_says_of_the_url_counts_for_nothing(self, better_auth: BetterAuth):
        """Row 78."""
        headers = {"Host": "a b", "X-Forwarded-Proto": "a b", "X-Forwarded-Host": "evil"}

        assert 200 == get(f"{better_auth.url}/api/auth/ok", headers=headers).status_code


class TestPages:
    """Row 72."""

    def test_a_trusted_page_may_call_with_its_cookie_and_another_may_not(
        self, installation: Installation
    ):
        with installation.served(BETTER_AUTH_TRUSTED_ORIGINS=PAGE) as server:
            asked = {
                origin: options(
                    f"{server.url}/api/auth/sign-in/email",
                    headers={"Origin": origin, "Access-Control-Request-Method": "POST"},
                )
                for origin in (PAGE, "https://evil.example", "null", f"{PAGE}.evil.example")
            }
            person = server.sign_up()
            signed_out = post(
                f"{server.url}/api/auth/sign-out",
                headers={"Cookie": person.cookie, "Origin": "https://evil.example"},
            )

        allowed = {
            origin: (answer.status_code, answer.headers.get("Access-Control-Allow-Origin"))
            for origin, answer in asked.items()
        }
        refused = dict.fromkeys(list(asked)[1:], (403, None))
        assert {PAGE: (204, PAGE)} | refused == allowed
        assert "true" == asked[PAGE].headers["Access-Control-Allow-Credentials"]
        assert (403, "INVALID_ORIGIN") == (signed_out.status_code, signed_out.json()["code"])


class TestRegistration:
    def test_closed_nobody_signs_up_and_who_is_there_signs_in(
        self, installation: Installation, ann: Person
    ):
        new = {"email": "new@example.com", "password": PASSWORD, "name": "New"}
        with installation.served(AUTH_REGISTRATION="closed") as server:
            refused = post(f"{server.url}/api/auth/sign-up/email", json=new)
            again = server.sign_in(ann.email)

        assert 400 == refused.status_code
        assert "EMAIL_PASSWORD_SIGN_UP_DISABLED" == refused.json()["code"]
        assert ann.user_id == again.user_id


class TestPooler:
    def test_its_tables_are_found_behind_a_transaction_pooler(self, installation: Installation):
        """As on Neon: no session may begin with a search_path of its own there."""
        with pgbouncer(installation.url, server_connections=2) as through:
            if through is None:
                pytest.skip("needs PgBouncer: Docker, or the program pgbouncer")
            with installation.served(DATABASE_URL=through) as server:
                people = [server.sign_up() for _ in range(6)]
                again = [server.sign_in(person.email) for person in people]

        assert [person.user_id for person in people] == [person.user_id for person in again]


def start(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", program(), "serve"],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


class TestStart:
    def test_it_needs_its_tables(self, another: Installation):
        with pytest.raises(RuntimeError, match=r'relation \\"session\\" does not exist'):
            with another.served():
                pass

    def test_every_fault_has_a_line_and_no_value_is_quoted(self, tmp_path: Path):
        """Row 17."""
        done = start(
            BETTER_AUTH_SECRET="too short",
            BETTER_AUTH_URL="https://auth.example.com/path",
            BETTER_AUTH_TRUSTED_ORIGINS=f"{PAGE},*",
            DATABASE_URL_FILE=str(tmp_path / "none"),
            PORT="x",
            AUTH_REGISTRATION="shut",
            TRUSTED_PROXIES="10.0.0.0/33,::/0",
        )

        assert 1 == done.returncode
        assert [
            "BETTER_AUTH_SECRET",
            "DATABASE_URL_FILE",
            "BETTER_AUTH_URL",
            "PORT",
            "AUTH_REGISTRATION",
            "BETTER_AUTH_TRUSTED_ORIGINS",
            "TRUSTED_PROXIES",
        ] == [line.partition(":")[0] for line in done.stderr.splitlines()]
        for value in ("too short", "/path", "*", "shut", "/33"):
            assert value not in done.stderr

    def test_a_database_that_is_away_is_said_without_its_password(self):
        done = start(
            BETTER_AUTH_SECRET="a secret of the tests, with more than 32 bytes",
            BETTER_AUTH_URL="https://auth.example.com",
            DATABASE_URL="postgresql://parley_auth:hush@127.0.0.1:1/parley",
        )

        assert (1, "ECONNREFUSED") == (done.returncode, json.loads(done.stderr)["code"])
        assert "hush" not in done.stderr

    def test_without_node_the_tests_say_what_to_do(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("PATH", "")

        with pytest.raises(RuntimeError, match="`make test` installs it"):
            program()
