"""What deploy/neon/set_up.py makes of what people paste; tests/containers/test_neon.py runs it."""

import io
import os
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
import typer
from sqlalchemy import URL
from sqlalchemy.exc import OperationalError

from deploy.neon import set_up
from deploy.neon.set_up import (
    Refused,
    ask,
    derive,
    explain,
    keep,
    known_url,
    pair,
    parse,
)
from parley.cli.doctor.finding import Finding
from parley.cli.migrate import NotMigrated
from parley.core.errors import DatabaseUnavailable

CANARY = "npg_canary4711"
HOST = "ep-quiet-lab-123456.eu-central-1.aws.neon.tech"
POOLED_HOST = "ep-quiet-lab-123456-pooler.eu-central-1.aws.neon.tech"
VERIFIED = "sslmode=verify-full&sslrootcert=system"


def url_at(host: str, query: str = "?sslmode=require&channel_binding=require") -> str:
    return f"postgresql://neondb_owner:{CANARY}@{host}/neondb{query}"


def shown(url: object) -> str:
    return url.render_as_string(hide_password=False)  # type: ignore[attr-defined]


def test_it_starts_in_the_image_which_names_a_folder_for_counts_that_is_not_there(tmp_path: Path):
    """Before it can say that it counts nothing, all that it imports must not count."""
    started = subprocess.run(
        [sys.executable, set_up.__file__, "--help"],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "none")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert 0 == started.returncode, started.stderr
    assert "Make a Neon database Parley's" in started.stdout


class TestParse:
    @pytest.mark.parametrize(
        "line",
        [
            url_at(HOST),
            f"  {url_at(HOST)}\r\n",
            f"psql '{url_at(HOST)}'",
            f'DATABASE_URL="{url_at(HOST)}"',
            url_at(HOST).replace("postgresql://", "postgres://"),
            url_at(HOST, "?sslmode=require"),
            url_at(HOST, "?sslmode=verify-full&sslrootcert=system"),
            url_at(HOST, ""),
        ],
    )
    def test_whatever_the_console_shows_becomes_a_url_that_verifies_the_server(self, line: str):
        assert url_at(HOST, f"?{VERIFIED}") == shown(parse(line))

    def test_a_password_and_a_port_stay_as_they_are(self):
        url = parse(f"postgresql://ann:p%40s%2Fs%3A%25@{HOST}:6543/neondb")

        assert ("p@s/s:%", 6543) == (url.password, url.port)
        assert "p%40s%2Fs%3A%25@" in shown(url)

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ("", "has no URL"),
            (CANARY, "has no URL"),
            (f"mysql://ann:{CANARY}@{HOST}/neondb", "has no URL"),
            (f"postgresql://{HOST}", "has no username and no password and no database"),
            (f"postgresql://ann@{HOST}/neondb", "has no password"),
            (f"postgresql://ann:{CANARY}@{HOST}", "has no database"),
            (f"postgresql://ann:{CANARY}@/neondb", "has no host"),
            (f"postgresql://ann:{CANARY}@{HOST}:port/neondb", "must look like"),
            (url_at(HOST, "?options=endpoint%3Dep-x"), "must have nothing behind the"),
            (url_at(HOST, "?sslmode=disable"), "sslmode=disable"),
            (url_at(HOST, "?sslmode=prefer"), "sslmode=prefer"),
        ],
    )
    def test_what_leads_nowhere_is_refused_in_a_line_without_the_password(
        self, line: str, why: str
    ):
        with pytest.raises(Refused, match=why) as caught:
            parse(line)

        assert CANARY not in str(caught.value)
        assert "\n" not in str(caught.value)


class TestDerive:
    @pytest.mark.parametrize("host", [HOST, POOLED_HOST])
    def test_either_names_the_other(self, host: str):
        direct, pooled = derive(parse(url_at(host)))

        assert (HOST, POOLED_HOST) == (direct.host, pooled.host)
        assert direct.set(host=POOLED_HOST) == pooled


class TestPair:
    DIRECT, POOLED = (f"postgresql://ann:x@{host}/neondb" for host in ("db", "db:6432"))

    def test_two_ways_to_one_database(self):
        direct, pooled = pair(parse(self.DIRECT), parse(self.POOLED))

        assert (None, 6432) == (direct.port, pooled.port)

    @pytest.mark.parametrize(
        ("second", "why"),
        [
            (DIRECT, "have one host"),
            ("postgresql://bob:x@db:6432/neondb", "two roles or databases"),
            ("postgresql://ann:x@db:6432/other", "two roles or databases"),
        ],
    )
    def test_other_pairs_are_refused(self, second: str, why: str):
        with pytest.raises(Refused, match=why):
            pair(parse(self.DIRECT), parse(second))


class TestAsk:
    def test_a_pipe_brings_one_line_of_neons(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{url_at(POOLED_HOST)}\n"))

        assert (HOST, POOLED_HOST) == tuple(url.host for url in ask())

    def test_or_two_of_others(self, monkeypatch: pytest.MonkeyPatch):
        lines = f"{TestPair.DIRECT}\n{TestPair.POOLED}\n"
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))

        assert (None, 6432) == tuple(url.port for url in ask())

    def test_of_others_one_is_not_enough(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{TestPair.DIRECT}\n"))

        with pytest.raises(Refused, match="has no URL"):
            ask()

        assert "no host of Neon's" in capsys.readouterr().out

    def test_no_more_is_read_than_a_url_has(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("sys.stdin", io.StringIO("x" * 1_000_000))

        with pytest.raises(Refused):
            ask()

    def test_a_terminal_does_not_show_it(self, monkeypatch: pytest.MonkeyPatch):
        terminal = io.StringIO(url_at(CANARY))
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", terminal)
        monkeypatch.setattr(set_up, "getpass", lambda _: url_at(HOST))

        assert HOST == ask().direct.host

    def test_the_end_of_a_terminals_lines_is_no_url(self, monkeypatch: pytest.MonkeyPatch):
        """Ctrl-D."""

        def ends(_: str) -> str:
            raise EOFError

        terminal = io.StringIO()
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", terminal)
        monkeypatch.setattr(set_up, "getpass", ends)

        with pytest.raises(Refused, match="has no URL: paste"):
            ask()


class TestKnownUrl:
    POOLED = parse(url_at(POOLED_HOST))
    APIS = POOLED.set(username="parley_api", password="p@ss")

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "neon/api/DATABASE_URL"

    def test_what_a_run_before_has_left_is_known(self, file: Path):
        keep(file, self.APIS, world_readable=False)

        assert self.APIS == known_url(file, self.POOLED)

    def test_without_one_nothing_is(self, file: Path):
        assert known_url(file, self.POOLED) is None

    @pytest.mark.parametrize("there", ["", "not a URL", url_at(POOLED_HOST), shown(POOLED)])
    def test_what_is_no_url_of_that_role_is_not(self, file: Path, there: str):
        file.parent.mkdir(parents=True)
        file.write_text(there)

        assert known_url(file, self.POOLED) is None

    @pytest.mark.parametrize("other", [{"host": "ep-loud-1-pooler"}, {"database": "other"}])
    def test_another_databases_is_not(self, file: Path, other: dict[str, str]):
        keep(file, self.APIS, world_readable=False)

        assert known_url(file, self.POOLED.set(**other)) is None  # type: ignore[arg-type]


class TestKeep:
    @pytest.mark.parametrize(("world_readable", "mode"), [(False, 0o600), (True, 0o644)])
    def test_it_is_the_url_alone_for_whom_it_is_for(
        self, tmp_path: Path, *, world_readable: bool, mode: int
    ):
        file = tmp_path / "api/DATABASE_URL"
        for _ in range(2):
            keep(file, parse(url_at(HOST)), world_readable=world_readable)

        assert url_at(HOST, f"?{VERIFIED}") == file.read_text()
        assert mode == stat.S_IMODE(file.stat().st_mode)
        assert [file] == list(file.parent.iterdir())


class TestExplain:
    @pytest.mark.parametrize(
        ("error", "what_to_do"),
        [
            (Refused("That has no URL: paste it"), "paste it"),
            (ssl.SSLCertVerificationError("x"), "SSL_CERT_FILE"),
            (asyncpg.InvalidPasswordError("password authentication failed"), "paste the URL anew"),
            (NotMigrated("Another session holds a table.", "Run it again"), "Run it again"),
            (TimeoutError(), "does not answer in 60 s"),
            (OSError("Name or service not known"), "Name or service not known"),
            (DatabaseUnavailable(), "run it again"),
        ],
    )
    def test_each_is_a_line_with_what_to_do(self, error: Exception, what_to_do: str):
        if isinstance(error, ssl.SSLCertVerificationError):
            error.verify_message = "self-signed certificate in certificate chain"

        assert what_to_do in explain(error)
        assert "\n" not in explain(error)

    @pytest.mark.parametrize(
        "error",
        [
            Refused("no"), NotMigrated("no"), DatabaseUnavailable(), OperationalError("x", {}, OSError()),
            asyncpg.PostgresError("no"), asyncpg.InterfaceError("no"), OSError(),
        ],
    )  # fmt: skip
    def test_each_ends_it_in_that_line_and_exit_1(
        self,
        error: Exception,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ):
        def fails(_: object) -> bool:
            raise error

        monkeypatch.setattr(set_up, "set_up", fails)
        # Of this process, which goes on.
        monkeypatch.setattr(set_up, "stand_alone", lambda: None)
        monkeypatch.setattr(os, "umask", lambda _: None)
        with pytest.raises(typer.Exit) as ended:
            set_up.main(tmp_path)

        assert 1 == ended.value.exit_code
        assert f"{explain(error)}\n" == capsys.readouterr().err


class TestSetUp:
    @pytest.mark.parametrize(("is_ok", "code"), [(True, 0), (False, 1)])
    def test_it_is_well_where_the_api_would_be(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_ok: bool, code: int
    ):
        async def make_role(urls: set_up.Urls, _: object) -> URL:
            return urls.pooled

        urls = derive(parse(url_at(HOST)))
        findings = [Finding("database", ok=True, detail=""), Finding("role", ok=is_ok, detail="")]
        for name, instead in {
            "ask": lambda: urls,
            "make_role": make_role,
            "upgrade": lambda _: None,
            "examine": lambda _: findings,
            "stand_alone": lambda: None,
        }.items():
            monkeypatch.setattr(set_up, name, instead)
        monkeypatch.setattr(os, "umask", lambda _: None)
        with pytest.raises(typer.Exit) as ended:
            set_up.main(tmp_path)

        assert code == ended.value.exit_code
