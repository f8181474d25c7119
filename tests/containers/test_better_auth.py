"""The profile better-auth, turned on in a stack that has run without it, used from outside over HTTP."""

import json
import re
from collections.abc import Generator
from urllib.parse import urlsplit

import pytest

from tests.better_auth import Desk, Person
from tests.containers.stack import Stack, docker, status_of
from tests.processes import PASSWORD, account, post
from tests.processes import say as say_to

pytestmark = pytest.mark.timeout(600)

PAGE = "https://chat.example.com"


@pytest.fixture(scope="module")
def stack() -> Generator[Stack]:
    with Stack(CORS_ORIGINS=PAGE).running() as stack:
        with account(stack.url()) as client:
            say_to(client, "before")
        stack.turn_on("better-auth", AUTH_MODE="local,better-auth")
        yield stack


def desk_of(stack: Stack) -> Desk:
    return Desk(stack.url("auth", 3000))


@pytest.fixture
def desk(stack: Stack) -> Desk:
    """Where it is now: a container that was started again has another port."""
    return desk_of(stack)


@pytest.fixture(scope="module")
def ann(stack: Stack) -> Person:
    """The one who stays; of a new one each there are few, for all here have one address."""
    return desk_of(stack).sign_up()


@pytest.fixture
def closed(stack: Stack, ann: Person) -> Generator[None]:  # noqa: ARG001 - she is there before
    stack.turn_on("better-auth", AUTH_REGISTRATION="closed")
    yield
    stack.turn_on("better-auth", AUTH_REGISTRATION="open")


def chat(stack: Stack, headers: dict[str, str], user_id: str = "me") -> int:
    url = f"{stack.url()}/api/v1/{user_id}/chat"
    return post(url, json={"message": "hello"}, headers=headers).status_code


class TestPeople:
    def test_each_credential_speaks_for_its_user(self, stack: Stack, desk: Desk, ann: Person):
        for headers in (
            {"Authorization": f"Bearer {desk.jwt(ann)}"},
            {"Authorization": f"Bearer {desk.jwt_of_session(ann)}"},
            ann.bearer,
            {"Cookie": ann.cookie, "Origin": PAGE},
        ):
            assert 200 == chat(stack, headers, ann.user_id)
            assert 403 == chat(stack, headers, "somebody-else")

    def test_who_signs_out_is_refused_at_once_but_by_jwt(self, stack: Stack, desk: Desk):
        ben = desk.sign_up()
        jwt = {"Authorization": f"Bearer {desk.jwt(ben)}"}
        looked_up = (ben.bearer, {"Cookie": ben.cookie, "Origin": PAGE})
        assert [200, 200, 200] == [chat(stack, headers) for headers in (jwt, *looked_up)]

        desk.sign_out(ben)

        assert [200, 401, 401] == [chat(stack, headers) for headers in (jwt, *looked_up)]

    def test_parleys_own_accounts_are_as_they_were(self, stack: Stack):
        with account(stack.url()) as client:
            (conversation,) = client.get("/conversations").json()["items"]
            say_to(client, "after", conversation["id"])


class TestService:
    @pytest.mark.usefixtures("ann")
    def test_doing_it_again_changes_nothing(self, stack: Stack):
        before = {container["Id"] for container in stack.inspect()}
        stack.compose("up", "--wait")
        stack.up()

        assert before == {container["Id"] for container in stack.inspect()}
        assert "0" != stack.psql("SELECT count(*) FROM auth.session")

    def test_it_is_nobody_can_write_nothing_and_has_a_port_on_loopback_alone(self, stack: Stack):
        seen = stack.run_in(
            "auth", "sh", "-c",
            "id -u; grep -E 'CapPrm|CapBnd|NoNewPrivs' /proc/1/status | cut -f 2;"
            " for folder in / /app /tmp /etc; do touch $folder/probe 2>/dev/null && echo $folder; done;"
            " true",
        )  # fmt: skip
        bindings = stack.container("auth")["HostConfig"]["PortBindings"]

        assert ["10003", "0" * 16, "0" * 16, "1"] == seen.split()
        assert [["127.0.0.1"]] == [[b["HostIp"] for b in found] for found in bindings.values()]
        for container in stack.inspect():
            host = container["HostConfig"]
            assert host["ReadonlyRootfs"], container["Name"]
            assert ["ALL"] == host["CapDrop"], container["Name"]
            assert ["no-new-privileges:true"] == host["SecurityOpt"], container["Name"]

    def test_each_side_has_only_the_secrets_that_it_needs(self, stack: Stack):
        api = stack.run_in("api", "sh", "-c", "cat /run/secrets/*")
        auth = stack.run_in("auth", "sh", "-c", "cat /run/secrets/*")
        shared = stack.run_in("api", "cat", "/run/secrets/better-auth-secret").strip()

        assert re.fullmatch("[0-9a-f]{64}", shared)
        assert shared in auth
        assert "parley_sessions:" in api
        assert [] == [name for name in ("parley_auth", "parley_owner") if name in api]
        others = ("parley_api", "parley_owner", "parley_sessions")
        assert [] == [name for name in others if name in auth]
        passwords = stack.run_in(
            "postgres", "sh", "-c", "cat /run/secrets/*-password | sed 's/.\\{64\\}/&\\n/g'"
        ).split()
        assert [64] * 3 == [len(password) for password in passwords]
        assert [] == [password for password in passwords if password in auth]

    def test_no_secret_shows_in_image_container_or_log(
        self, stack: Stack, desk: Desk, ann: Person
    ):
        """Row 84; what people type and what they are given, too."""
        post(
            f"{desk.url}/api/auth/sign-in/email",
            json={"email": ann.email, "password": "wrong horse"},
        )
        secrets = stack.run_in("auth", "cat", "/run/secrets/better-auth-secret").split()
        for service, file in (("auth", "database-url"), ("api", "better-auth-database-url")):
            url = stack.run_in(service, "cat", f"/run/secrets/{file}")
            secrets.append(urlsplit(url).password or "")
        secrets += [PASSWORD, "wrong horse"]
        secrets += [ann.token.partition(".")[0], ann.email]
        containers = stack.inspect()
        shown = json.dumps(containers) + stack.compose("logs", "--no-color")
        for image in {container["Image"] for container in containers}:
            shown += docker("history", "--no-trunc", image) + docker("inspect", image)

        assert "Invalid password" in shown
        assert [] == [secret for secret in secrets if secret in shown]

    def test_a_role_of_its_own_looks_up_and_reads_nothing_else(self, stack: Stack, ann: Person):
        role = "better-auth-database-url"
        token = ann.token.partition(".")[0]
        query = 'SELECT count("userId") FROM auth.session'

        assert "0" == stack.psql(query, url_file=role)
        assert "1" == stack.psql(
            f"SET app.lookup = '{token}'; {query}", url_file=role
        ).removeprefix("SET\n")
        for refused in (
            "SELECT * FROM auth.session",
            'SELECT id FROM auth."user"',
            "SELECT FROM messages",
            "CREATE TEMPORARY TABLE mine ()",
        ):
            with pytest.raises(RuntimeError, match="permission denied"):
                stack.psql(refused, url_file=role)
        with pytest.raises(RuntimeError, match="permission denied for schema auth"):
            stack.psql(query, url_file="database-url-none")

    @pytest.mark.parametrize("database", ["postgres", "template1"])
    @pytest.mark.parametrize(
        ("service", "file"),
        [
            ("api", "database-url-none"),
            ("api", "better-auth-database-url"),
            ("auth", "database-url"),
        ],
    )
    def test_no_role_has_another_database_to_be_in(
        self, stack: Stack, service: str, file: str, database: str
    ):
        assert "1" == stack.psql("SELECT 1", url_file=file, of=service)
        with pytest.raises(RuntimeError, match="permission denied for database"):
            stack.psql("SELECT 1", url_file=file, of=service, database=database)

    @pytest.mark.usefixtures("closed")
    def test_closed_nobody_signs_up(self, stack: Stack, ann: Person):
        body = {"email": "late@example.com", "password": PASSWORD, "name": "Late"}
        url = f"{stack.url('auth', 3000)}/api/auth"

        refused = post(f"{url}/sign-up/email", json=body)

        assert (400, "EMAIL_PASSWORD_SIGN_UP_DISABLED") == (
            refused.status_code,
            refused.json()["code"],
        )
        assert 200 == chat(stack, ann.bearer, ann.user_id)

    def test_it_leaves_in_order(self, stack: Stack):
        stack.compose("stop", "auth")

        assert 0 == stack.container("auth")["State"]["ExitCode"]
        stack.compose("up", "--wait", "--no-recreate")
        assert 200 == status_of(f"{stack.url('auth', 3000)}/health")
