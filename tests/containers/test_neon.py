"""deploy/neon by its page alone, on a fresh copy, against a stand-in of Neon: see neon/compose.yml."""

import os
import secrets
import stat
import subprocess
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.containers.conftest import Say
from tests.containers.neon.standin import HOST, POOLED_HOST, at_a_terminal, make_certificates
from tests.containers.stack import ROOT, Stack, docker, status_of
from tests.processes import account, until
from tests.processes import say as say_to
from tests.readme import Step, blocks, clone_into, first_reply, matches, run_steps

pytestmark = pytest.mark.timeout(900)

PAGE = "deploy/neon/README.md"
PASSWORD = "npg_canary4711"
# As the console shows it.
PASTED = f"postgresql://neondb_owner:{PASSWORD}@{POOLED_HOST}/neondb?sslmode=require&channel_binding=require"
WORLD = "tests/containers/neon/world.yml"
APIS, OWNERS = "/run/secrets/DATABASE_URL", "/run/secrets/DATABASE_MIGRATION_URL"


class Ran(NamedTuple):
    step: Step
    status: int
    shown: str


class Neon(NamedTuple):
    """The stand-in, and a folder with its CA."""

    stack: Stack
    tls: Path

    @property
    def network(self) -> str:
        return f"{self.stack.project}_internet"

    def psql(self, query: str, url: str = "user=cloud_admin dbname=neondb") -> str:
        return self.stack.run_in(
            "postgres", "psql", url, "--no-psqlrc", "--tuples-only", "--no-align",
            "--set=ON_ERROR_STOP=1", f"--command={query}",
        ).strip()  # fmt: skip


class Parley(NamedTuple):
    """The stack as the page's lines have left it, and what each of them showed."""

    stack: Stack
    environment: Mapping[str, str]
    ran: list[Ran]

    def type(self, command: str, answer: str = "") -> tuple[int, str]:
        return at_a_terminal(command, self.stack.root, self.environment, answer)

    def secret(self, service: str, path: str) -> str:
        """What one of its services has in a file; also of one that has ended."""
        return self.stack.compose(
            "run", "--rm", "--no-deps", "--no-TTY", "--entrypoint", "cat", service, path
        )


@pytest.fixture(scope="module")
def neon(tmp_path_factory: pytest.TempPathFactory) -> Generator[Neon]:
    tls = tmp_path_factory.mktemp("neon") / "tls"
    make_certificates(tls)
    passwords = {"OWNER_PASSWORD": PASSWORD, "ADMIN_PASSWORD": secrets.token_hex(16)}
    files = ["tests/containers/neon/compose.yml"]
    with Stack(files=files, TLS_FOLDER=str(tls), **passwords).running() as stack:
        yield Neon(stack, tls)


@pytest.fixture(scope="module")
def parley(neon: Neon, tmp_path_factory: pytest.TempPathFactory) -> Generator[Parley]:
    clone = clone_into(tmp_path_factory.mktemp("clone") / "parley")
    stack = Stack(
        root=clone,
        files=["docker-compose.yml", "deploy/neon/compose.yml", WORLD],
        TLS_FOLDER=str(neon.tls),
        NEON_NETWORK=neon.network,
    )
    # A person's, who has `.env` and one project.
    environment = stack.environment | {"COMPOSE_PROJECT_NAME": stack.project}
    del environment["COMPOSE_DISABLE_ENV_FILE"]
    del environment["COMPOSE_PROFILES"]
    with stack.removed():
        ran = []
        for step in blocks(PAGE)[0]:
            asks = " run " in step.command
            done = at_a_terminal(step.command, clone, environment, PASTED if asks else "")
            if "doctor" in step.command and done[0]:
                # Redis has a fifth of a second for its answer, be the machine as busy as it likes.
                done = at_a_terminal(step.command, clone, environment)
            ran.append(Ran(step, *done))
            assert 0 == done[0], done[1][-2000:]
            dotenv = clone / ".env"
            if WORLD not in dotenv.read_text():
                dotenv.write_text(
                    dotenv.read_text().replace("compose.yml\n", f"compose.yml:{WORLD}\n")
                )
        yield Parley(stack, environment, ran)


class TestThePage:
    def test_each_line_shows_what_is_promised(self, parley: Parley):
        for step, status, shown in parley.ran:
            assert 0 == status
            if step.printed:
                assert matches(step.printed, shown.strip()), (step, shown)

    def test_the_url_is_shown_nowhere(self, parley: Parley, neon: Neon):
        api_password = parley.secret("api", APIS).split(":")[2].split("@")[0]
        seen = "".join(one.shown for one in parley.ran) + parley.stack.compose(
            "logs", "--no-color"
        )
        seen += docker("inspect", *parley.stack.compose("ps", "--all", "--quiet").split())
        seen += neon.stack.compose("logs", "--no-color")

        assert 64 == len(api_password)
        for password in (PASSWORD, api_password):
            assert password not in seen

    def test_then_the_readmes_lines_do_what_they_do_anywhere(self, parley: Parley, tmp_path: Path):
        port = int(parley.stack.url().rpartition(":")[2])
        steps = first_reply()
        for step, actual in zip(steps, run_steps(steps, tmp_path, port), strict=True):
            assert matches(step.printed, actual), (step, actual)

    def test_no_postgres_of_its_own_runs(self, parley: Parley):
        services = parley.stack.compose("ps", "--all", "--services").split()

        assert {"secrets", "redis", "migrate", "api"} == set(services)


class TestPowers:
    def test_the_api_comes_through_the_pooler_as_a_role_that_can_no_more_than_it_must(
        self, parley: Parley, neon: Neon
    ):
        url = parley.secret("api", APIS)

        assert url.startswith("postgresql://parley_api:")
        assert url.endswith(f"@{POOLED_HOST}/neondb?sslmode=verify-full&sslrootcert=system")
        attributes = "rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication"
        role = "FROM pg_roles WHERE rolname = 'parley_api'"
        assert "f|f|f|f|f" == neon.psql(f"SELECT {attributes} {role}")
        memberships = "SELECT count(*) FROM pg_auth_members WHERE member = 'parley_api'::regrole"
        assert "0" == neon.psql(memberships)

    def test_it_never_sees_the_owners(self, parley: Parley):
        found = parley.stack.run_in("api", "sh", "-c", "grep -r neondb_owner /run/secrets || true")

        assert "" == found
        owners = parley.secret("migrate", OWNERS)
        assert owners.startswith(f"postgresql://neondb_owner:{PASSWORD}@{HOST}/neondb?")

    def test_one_user_never_sees_anothers_rows(self, parley: Parley, neon: Neon):
        with account(parley.stack.url()) as client:
            say_to(client, "mine alone")
        as_the_api = parley.secret("api", APIS).partition("?")[0] + "?sslmode=require"

        assert "0" != neon.psql("SELECT count(*) FROM messages")
        assert "0" == neon.psql("SELECT count(*) FROM messages", as_the_api)
        with pytest.raises(RuntimeError, match="permission denied"):
            neon.psql("CREATE TABLE mine ()", as_the_api)


class TestStandIn:
    """That what passed could have failed."""

    @pytest.mark.parametrize("host", [HOST, POOLED_HOST])
    def test_nobody_comes_in_by_plain_text(self, neon: Neon, host: str):
        url = f"postgresql://neondb_owner:{PASSWORD}@{host}/neondb?sslmode="

        assert "1" == neon.psql("SELECT 1", f"{url}require")
        with pytest.raises(RuntimeError, match=r"no encryption|SSL required"):
            neon.psql("SELECT 1", f"{url}disable")

    def test_its_pooler_takes_no_time_limits_at_the_start(self, neon: Neon):
        url = f"postgresql://neondb_owner:{PASSWORD}@{POOLED_HOST}/neondb?sslmode=require"

        with pytest.raises(RuntimeError, match="unsupported startup parameter"):
            neon.psql("SELECT 1", f"{url}&options=-cstatement_timeout%3D1s")


class TestMistakes:
    def run(self, parley: Parley, pasted: str, *options: str) -> subprocess.CompletedProcess[str]:
        """As from a file: nobody is at a terminal."""
        return subprocess.run(
            ["docker", "compose", "run", "--rm", "--no-TTY", *options, "neon"],
            cwd=parley.stack.root, env=parley.environment, input=f"{pasted}\n",
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("old", "new", "why"),
        [
            (PASSWORD, "npg_canary4712", "password authentication failed for user"),
            ("sslmode=require", "sslmode=disable", "says sslmode=disable"),
            (POOLED_HOST, f"ep-other-1.{HOST}", "That did not work"),
            ("/neondb?", "/otherdb?", 'database "otherdb" does not exist'),
        ],
    )
    def test_each_is_a_line_that_says_what_to_do(
        self, parley: Parley, old: str, new: str, why: str
    ):
        done = self.run(parley, PASTED.replace(old, new))

        assert 1 == done.returncode
        assert why in done.stderr
        assert "canary" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr

    def test_a_server_that_no_ca_of_the_system_vouches_for_is_not_talked_to(self, parley: Parley):
        done = self.run(parley, PASTED, "--env", "SSL_CERT_FILE=/dev/null")

        assert 1 == done.returncode
        assert "name its CA in SSL_CERT_FILE" in done.stderr

    def test_nor_by_the_api_whose_doctor_says_what_may_be_wrong(self, parley: Parley):
        ill = parley.stack.compose(
            "run", "--rm", "--no-TTY", "--env", "SSL_CERT_FILE=/dev/null", "api", "doctor",
            check=False,
        )  # fmt: skip

        assert "FAIL  database" in ill
        assert "has a certificate that is not believed" in ill
        assert "is it of a CA of this system" in ill

    def test_the_doctor_sees_a_pooler_that_nobody_said_is_one(self, parley: Parley):
        ill = parley.stack.compose(
            "run",
            "--rm",
            "--no-TTY",
            "--env",
            "DATABASE_POOLER=none",
            "api",
            "doctor",
            check=False,
        )

        assert "FAIL  database" in ill
        assert "set DATABASE_POOLER=transaction" in ill

    def test_and_an_owners_url_that_leads_through_it(self, parley: Parley):
        """Where two that migrate at once would hold one lock."""
        owners = f"DATABASE_MIGRATION_URL={PASTED}"
        ill = parley.stack.compose(
            "run", "--rm", "--no-TTY", "--env", "DATABASE_MIGRATION_URL_FILE=", "--env", owners,
            "migrate", check=False,
        )  # fmt: skip

        assert "take `-pooler` out of its host" in ill


class TestAgain:
    def test_the_api_goes_on_with_the_password_that_it_has(self, parley: Parley):
        before = parley.secret("api", APIS)

        status, shown = parley.type("docker compose run --rm neon", PASTED)

        assert 0 == status, shown
        assert before == parley.secret("api", APIS)
        with account(parley.stack.url()) as client:
            say_to(client, "still there")

    def test_the_pages_lines_give_it_another(self, parley: Parley):
        before = parley.secret("api", APIS)
        text = (parley.stack.root / PAGE).read_text()
        lines = text.partition("```sh\n")[2].partition("```")[0]

        status, shown = parley.type(lines, PASTED)

        assert 0 == status, shown
        assert before != parley.secret("api", APIS)
        with account(parley.stack.url()) as client:
            say_to(client, "with a new one")

    def test_elsewhere_it_shuts_nobody_out_unasked_and_writes_files_for_one_alone(
        self, parley: Parley, neon: Neon, tmp_path: Path
    ):
        mine = subprocess.run(["id", "-u"], capture_output=True, text=True, check=True).stdout
        mounts = [
            word
            for source, target in (
                (parley.stack.root / "deploy", "/deploy:ro"),
                (neon.tls / "ca.crt", "/etc/ssl/certs/ca-certificates.crt:ro"),
                (tmp_path, "/clone"),
            )
            for word in ("--volume", f"{source}:{target}")
        ]

        def run(*options: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [
                    "docker", "run", "--rm", "--interactive", "--network", neon.network, *mounts,
                    "--workdir", "/clone", "--user", mine.strip(), "--entrypoint", "python",
                    f"{parley.stack.project}-api", "/deploy/neon/set_up.py", *options,
                ],
                input=f"{PASTED}\n", capture_output=True, text=True, check=False,
            )  # fmt: skip

        refused = run()
        assert 1 == refused.returncode
        assert "--new-password" in refused.stderr
        assert not (tmp_path / "var").exists()

        done = run("--new-password")
        # The stack's own is good again.
        status, shown = parley.type("docker compose run --rm neon", PASTED)

        assert (0, 0) == (done.returncode, status), done.stderr + shown
        files = {path for path in (tmp_path / "var/neon").rglob("*") if path.is_file()}
        assert {"api/DATABASE_URL", "migrate/DATABASE_MIGRATION_URL"} == {
            str(path.relative_to(tmp_path / "var/neon")) for path in files
        }
        assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in files}


class TestBackup:
    @pytest.mark.parametrize(("cas", "is_made"), [("/ca.crt", True), ("/dev/null", False)])
    def test_it_is_dumped_by_postgresqls_image_that_is_handed_the_cas_and_by_no_other(
        self, parley: Parley, neon: Neon, tmp_path: Path, cas: str, *, is_made: bool
    ):
        """As the Kubernetes component does: that image has none of its own."""
        mounts = {ROOT / "deploy/postgres/backup": "/scripts", neon.tls / "ca.crt": "/ca.crt"}
        options = [
            *(word for path in mounts for word in ("--volume", f"{path}:{mounts[path]}:ro")),
            *("--volume", f"{tmp_path}:/backups", "--user", f"{os.getuid()}:{os.getgid()}"),
            *("--env", f"SSL_CERT_FILE={cas}", "--env", "DATABASE_MIGRATION_URL"),
        ]
        done = subprocess.run(
            ["docker", "run", "--rm", "--network", neon.network, *options, "postgres:18", "bash", "/scripts/backup.sh"],
            env=os.environ | {"DATABASE_MIGRATION_URL": parley.secret("migrate", OWNERS).strip()},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

        assert is_made == (0 == done.returncode), done.stderr
        assert is_made == (tmp_path / "unfinished/database.dump").exists()
        assert is_made or "certificate verify failed" in done.stderr


class TestColdStart:
    def test_while_it_is_away_chat_is_503_and_comes_back_by_itself(
        self, parley: Parley, neon: Neon, say: Say
    ):
        url = parley.stack.url()
        with account(url) as client:
            say_to(client, "before")
            neon.stack.compose("pause", "pooler", "postgres")
            try:
                refused = client.post("/me/chat", json={"message": "during"})
                assert (503, "database-unavailable") == (
                    refused.status_code,
                    refused.json()["code"],
                )
                assert 1 <= int(refused.headers["Retry-After"]) <= 5
                assert [200, 200] == [
                    status_of(f"{url}{path}") for path in ("/health", "/health/ready")
                ]
            finally:
                neon.stack.compose("unpause", "pooler", "postgres")

            def answers() -> bool:
                return (
                    client.post("/me/chat", json={"message": "after"}).status_code
                    == httpx.codes.OK
                )

            say(f"chat answers again {until(answers):.1f} s after Neon does")
