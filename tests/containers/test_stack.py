"""`docker compose up` on a fresh clone, used from outside over HTTP."""

import json
import signal
import statistics
import time
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from tests.containers.conftest import Say
from tests.containers.stack import Stack, docker, status_of
from tests.processes import account, get, until
from tests.processes import say as say_to
from tests.readme import first_reply, matches, run_steps

pytestmark = pytest.mark.timeout(600)

HEALTH_SECONDS = 0.2
SIGTERM_BIT = 1 << (signal.SIGTERM - 1)


def caught_in(container: str) -> str:
    """The signals that its first process has a handler for."""
    status = docker("exec", container, "cat", "/proc/1/status")
    return status.partition("SigCgt:")[2].split()[0]


class TestService:
    def test_the_readmes_lines_print_what_is_promised(self, stack: Stack, tmp_path: Path):
        port = int(stack.url().rpartition(":")[2])
        steps = first_reply()
        for step, actual in zip(steps, run_steps(steps, tmp_path, port), strict=True):
            assert matches(step.printed, actual), (step, actual)

    def test_what_was_said_outlives_the_containers(self, stack: Stack):
        with account(stack.url()) as client:
            first = say_to(client, "remember this")

        stack.compose("down")
        stack.up()

        with account(stack.url()) as client:
            again = say_to(client, "well?", first["conversation_id"])
        assert (
            "You said: well?\nI remember 2 earlier messages; you last said: remember this."
        ) == again["reply"]["content"]

    def test_a_new_secret_signs_nobody_out_and_the_one_before_is_forgotten(self, stack: Stack):
        with account(stack.url()) as client:
            signed = {"Authorization": client.headers["Authorization"]}
        statuses = []
        for _ in range(2):
            stack.compose("run", "--rm", "secrets", "rotate")
            stack.compose("restart", "api")
            stack.compose("up", "--wait", "--no-recreate")
            me = get(f"{stack.url()}/api/v1/auth/me", headers=signed)
            statuses.append(me.status_code)

        assert [200, 401] == statuses

    def test_doing_it_again_changes_nothing(self, stack: Stack):
        before = {container["Id"] for container in stack.inspect()}
        stack.compose("up", "--wait")
        stack.up()

        assert before == {container["Id"] for container in stack.inspect()}

    def test_health_answers_within_200_ms(self, stack: Stack, say: Say):
        """The one test of time, by requirement."""
        with httpx.Client(base_url=stack.url()) as client:
            seconds = []
            for _ in range(50):
                began_at = time.perf_counter()
                assert 200 == client.get("/health").status_code
                seconds.append(time.perf_counter() - began_at)
        median = statistics.median(seconds)
        say(f"GET /health: median of 50 is {median * 1000:.1f} ms")
        assert median < HEALTH_SECONDS

    def test_only_the_api_has_a_port_and_only_on_loopback(self, stack: Stack):
        published = {
            container["Config"]["Labels"]["com.docker.compose.service"]: {
                binding["HostIp"]
                for bindings in (container["HostConfig"]["PortBindings"] or {}).values()
                for binding in bindings
            }
            for container in stack.inspect()
        }
        assert {"api": {"127.0.0.1"}} == {name: ips for name, ips in published.items() if ips}


class TestOutage:
    def test_without_postgres_chat_is_503_and_comes_back_by_itself(self, stack: Stack, say: Say):
        url = stack.url()
        with account(url) as client:
            say_to(client, "before")
            stack.compose("kill", "postgres")

            refused = client.post("/me/chat", json={"message": "during"})
            assert (503, "database-unavailable") == (refused.status_code, refused.json()["code"])
            assert 1 <= int(refused.headers["Retry-After"]) <= 5
            assert [200, 200, 503] == [
                status_of(f"{url}{path}") for path in ("/health", "/health/ready", "/health/db")
            ]

            stack.compose("up", "--wait", "--no-recreate", "postgres")
            seconds = until(
                lambda: client.post("/me/chat", json={"message": "after"}).status_code == 200
            )
            say(f"chat answers again {seconds:.1f} s after PostgreSQL is healthy")
            (conversation, *_) = client.get("/conversations").json()["items"]
            assert 2 == conversation["length"]

    def test_without_redis_turns_go_on(self, stack: Stack, say: Say):
        with account(stack.url()) as client:

            def median() -> float:
                seconds = []
                for _ in range(20):
                    began_at = time.perf_counter()
                    say_to(client, "hello")
                    seconds.append(time.perf_counter() - began_at)
                return statistics.median(seconds)

            before = median()
            stack.compose("kill", "redis")
            say(f"a turn: {before * 1000:.0f} ms with Redis, {median() * 1000:.0f} ms without")
            stack.compose("up", "--wait", "--no-recreate", "redis")


class TestConfinement:
    def test_the_api_is_nobody_and_can_do_nothing_to_its_container(self, stack: Stack):
        """Of a process in it, as the kernel sees it."""
        probe = """
import os, pathlib
FOLDERS = ("/", "/app", "/app/var", "/opt/parley", "/etc", "/var/lib", "/tmp", "/var/lib/parley")
status = dict(line.split(":", 1) for line in open("/proc/1/status"))
def writable(folder):
    try:
        probe = pathlib.Path(folder, "probe")
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True
print([status["Uid"].split(), status["Gid"].split(), status["CapPrm"].strip(), status["CapBnd"].strip(),
       status["NoNewPrivs"].strip(), [f for f in FOLDERS if writable(f)]])
"""
        seen = stack.run_in("api", "python", "-c", probe)

        nobody, nothing = ["10001"] * 4, "0" * 16
        writable = ["/tmp", "/var/lib/parley"]  # noqa: S108
        assert str([nobody, nobody, nothing, nothing, "1", writable]) == seen.strip()

    def test_every_service_is_confined(self, stack: Stack):
        for container in stack.inspect():
            host = container["HostConfig"]
            name = container["Name"]
            assert host["ReadonlyRootfs"], name
            assert ["ALL"] == host["CapDrop"], name
            assert not host["CapAdd"], name
            assert ["no-new-privileges:true"] == host["SecurityOpt"], name

    def test_no_secret_shows_in_image_container_environment_or_log(self, stack: Stack):
        with account(stack.url()) as client:
            say_to(client, "an ordinary day")
        secrets = stack.run_in(
            "postgres", "sh", "-c", "cat /run/secrets/*-password | sed 's/.\\{64\\}/&\\n/g'"
        ).split()
        for name in ("auth-secret", "auth-secret-previous", "better-auth-secret"):
            secrets += stack.run_in("api", "cat", f"/run/secrets/{name}").split()
        assert [64] * 6 == [len(secret) for secret in secrets]

        containers = stack.inspect()
        images = {container["Image"] for container in containers}
        shown = json.dumps(containers) + stack.compose("logs", "--no-color")
        for image in images:
            shown += docker("history", "--no-trunc", image) + docker("inspect", image)
        shown += stack.run_in("api", "cat", "/proc/1/environ")
        for secret in secrets:
            assert secret not in shown

    def test_the_api_never_sees_the_owners_url(self, stack: Stack):
        files = stack.run_in(
            "api", "sh", "-c", "grep --recursive --files-with-matches . /run/secrets"
        )

        secrets = {"auth-secret", "auth-secret-previous", "better-auth-secret"}
        urls = {"database-url-none", "database-url-transaction", "redis-url"}
        urls |= {"better-auth-database-url"}
        assert secrets | urls == {path.rpartition("/")[2] for path in files.split()}
        assert "" == stack.run_in("api", "sh", "-c", "grep -r parley_owner /run/secrets || true")


class TestRoles:
    URL = "database-url-none"

    def test_the_apis_role_sees_nothing_without_an_identity_and_makes_nothing(self, stack: Stack):
        with account(stack.url()) as client:
            file = client.post("/files", files={"file": ("mine.txt", b"mine alone")}).json()
            message = {"message": "mine alone", "attachments": [file["id"]]}
            assert 200 == client.post("/me/chat", json=message).status_code
            client.post("/auth/keys", json={"name": "mine alone"})
        tables = stack.psql(
            "SELECT table_name FROM information_schema.columns"
            " WHERE column_name = 'user_id' AND table_schema = 'public'"
        ).split()
        assert {"conversations", "turns", "messages", "files"} <= set(tables)
        for table in [*tables, "users"]:
            assert "0" != stack.psql(f"SELECT count(*) FROM {table}")  # noqa: S608
            assert "0" == stack.psql(f"SELECT count(*) FROM {table}", url_file=self.URL)  # noqa: S608

        for statement in ("CREATE TABLE mine ()", "CREATE SCHEMA mine", "CREATE ROLE mine"):
            with pytest.raises(RuntimeError, match="permission denied"):
                stack.psql(statement, url_file=self.URL)

    def test_the_apis_role_is_small_and_no_table_makes_an_exception_for_anybody(
        self, stack: Stack
    ):
        assert "f|f|f|f" == stack.psql(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles"
            " WHERE rolname = current_user",
            url_file=self.URL,
        )
        assert "t" == stack.psql(
            "SELECT bool_and(relrowsecurity AND relforcerowsecurity) FROM pg_class WHERE oid IN ("
            " SELECT attrelid FROM pg_attribute WHERE attname = 'user_id' AND attnum > 0)"
            " AND relkind = 'r'"
        )


class TestFailedMigration:
    @pytest.fixture
    def locked_out(self, stack: Stack) -> Generator[None]:
        """The owner may not log in, so that nothing can be migrated."""
        stack.psql("ALTER ROLE parley_owner NOLOGIN")
        yield
        stack.psql("ALTER ROLE parley_owner LOGIN")
        stack.up()

    @pytest.mark.usefixtures("locked_out")
    def test_it_keeps_the_api_from_starting_and_says_why(self, stack: Stack):
        stack.compose("rm", "--force", "--stop", "api", "migrate")

        said = stack.compose("up", "--wait", check=False)

        assert 'service "migrate" didn\'t complete successfully' in said
        assert "not permitted to log in" in stack.compose("logs", "--no-color", "migrate")
        assert "running" not in stack.compose("ps", "--all", "--format={{.State}}", "api")


# The first process, with a database that lets it connect and then says nothing.
FROZEN_DATABASE = """
import os, socket
silent = socket.create_server(("127.0.0.1", 5432))
silent.set_inheritable(True)
os.environ["DATABASE_MIGRATION_URL"] = "postgresql://owner:x@127.0.0.1/parley"
os.execvp("parley", ["parley", "migrate"])
"""


class TestStop:
    def test_a_command_that_waits_leaves_when_it_is_told(self, stack: Stack):
        """The kernel would keep SIGTERM from a first process that has no handler."""
        image = stack.container("api")["Image"]
        frozen = ("--network", "none", "--tmpfs", "/tmp", "--entrypoint", "python")  # noqa: S108
        container = docker("run", "--detach", *frozen, image, "-c", FROZEN_DATABASE).strip()
        try:
            until(lambda: SIGTERM_BIT & int(caught_in(container), 16) != 0)
            docker("stop", "--time", "60", container)
            assert "143" == docker("inspect", "--format={{.State.ExitCode}}", container).strip()
        finally:
            docker("rm", "--force", container)

    def test_it_leaves_in_order(self, stack: Stack):
        stack.compose("stop", "api")

        assert 0 == stack.container("api")["State"]["ExitCode"]
        stack.compose("up", "--wait", "--no-recreate")
