"""The server and its workers: how they end, how they are replaced, and what they count together."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from gunicorn.arbiter import Arbiter
from prometheus_client.parser import text_string_to_metric_families

from tests.events import ServerEvent, parse
from tests.processes import (
    SLOW_SERVER,
    START_SECONDS,
    Server,
    account,
    free_port,
    get,
    say,
    until,
)


@contextmanager
def turn_under_way(client: httpx.Client, message: str) -> Generator[Iterator[str]]:
    """Yields the lines behind the first piece; the model waits for a file named `go`."""
    body = {"message": message, "stream": True}
    with client.stream("POST", "/me/chat", json=body) as stream:
        lines = stream.iter_lines()
        while next(lines) != 'data: {"text":"first "}':
            pass
        yield lines


def rest_of(lines: Iterator[str]) -> list[ServerEvent]:
    return parse("\n".join(lines).lstrip() + "\n\n")


class TestStop:
    def test_it_announces_and_serves_on(self, tmp_path: Path, sqlite_url: str):
        variables = {"DATABASE_URL": sqlite_url, "SHUTDOWN_ANNOUNCE_SECONDS": "300"}
        server = Server(tmp_path, *SLOW_SERVER, **variables).start()
        server.begin_to_stop()
        until(lambda: get(f"{server.url}/health/ready").status_code == 503)

        assert 200 == get(f"{server.url}/health").status_code
        with account(server.url) as client, turn_under_way(client, "late") as lines:
            assert "close" == client.get("/auth/me").headers["Connection"]
            (tmp_path / "go").touch()
            assert "first re: late" == rest_of(lines)[-1].data["reply"]["content"]
        server.interrupt()
        assert 0 == server.wait()

    def test_then_it_refuses_and_lets_the_turn_end(self, tmp_path: Path, sqlite_url: str):
        variables = {"DATABASE_URL": sqlite_url, "SHUTDOWN_ANNOUNCE_SECONDS": "1"}
        server = Server(tmp_path, *SLOW_SERVER, **variables).start()
        with account(server.url) as client, turn_under_way(client, "first") as lines:
            server.begin_to_stop()
            until(lambda: not _listens(server))
            (tmp_path / "go").touch()

            assert "first re: first" == rest_of(lines)[-1].data["reply"]["content"]
        assert 0 == server.wait()

    def test_who_reads_anothers_turn_does_not_keep_it(
        self, tmp_path: Path, sqlite_url: str, redis_url: str
    ):
        """Nor is waited for: they read on elsewhere, behind the last event that they have."""
        variables = {"DATABASE_URL": sqlite_url, "REDIS_URL": redis_url}
        with (
            Server(tmp_path, *SLOW_SERVER, **variables) as here,
            Server(tmp_path, SHUTDOWN_GRACE_SECONDS="600", **variables) as there,
            account(here.url) as client,
            turn_under_way(client, "hi") as lines,
        ):
            (conversation,) = client.get("/conversations").json()["items"]
            detail = client.get(f"/conversations/{conversation['id']}").json()
            events = f"/api/v1/turns/{detail['running_turn']['id']}/events"
            with client.stream("GET", f"{there.url}{events}") as reading:
                followed = reading.iter_lines()
                while next(followed) != 'data: {"text":"first "}':
                    pass
                there.begin_to_stop()
                assert [] == [line for line in followed if line]
            assert 0 == there.wait()

            (tmp_path / "go").touch()
            whole = rest_of(lines)
            rest = client.get(f"{here.url}{events}", headers={"Last-Event-ID": "2"})
            assert whole == parse(rest.text)

    @pytest.mark.parametrize("database", ["sqlite", "postgres"])
    def test_what_runs_beyond_the_grace_is_cut_recorded_and_told(
        self, tmp_path: Path, database: str, request: pytest.FixtureRequest
    ):
        url = (
            request.getfixturevalue("sqlite_url")
            if database == "sqlite"
            else request.getfixturevalue("postgres").api
        )
        variables = {"DATABASE_URL": url, "SHUTDOWN_GRACE_SECONDS": "0"}
        server = Server(tmp_path, *SLOW_SERVER, **variables).start()
        with account(server.url) as client, turn_under_way(client, "cut short") as lines:
            server.begin_to_stop()
            rest = rest_of(lines)
            assert 0 == server.wait()
        assert [("error", "draining")] == [(event.name, event.data["code"]) for event in rest]

        with server, account(server.url) as client:
            (listed,) = client.get("/conversations").json()["items"]
            detail = client.get(f"/conversations/{listed['id']}").json()
        assert None is detail["running_turn"]
        assert [("cut short", "complete"), ("first ", "failed")] == [
            (message["content"], message["status"]) for message in detail["messages"]
        ]

    def test_ctrl_c_announces_nothing_and_a_second_one_does_not_wait_for_the_grace(
        self, tmp_path: Path, sqlite_url: str
    ):
        variables = {"SHUTDOWN_GRACE_SECONDS": "3000", "SHUTDOWN_ANNOUNCE_SECONDS": "300"}
        server = Server(tmp_path, *SLOW_SERVER, DATABASE_URL=sqlite_url, **variables).start()
        with account(server.url) as client, turn_under_way(client, "hi"):
            server.interrupt()
            until(lambda: "Waiting for connections to close" in server.output)
            server.interrupt()
            assert 0 == server.wait()

    def test_hurried_behind_sigterm_it_still_says_that_it_goes(
        self, tmp_path: Path, sqlite_url: str
    ):
        variables = {"SHUTDOWN_GRACE_SECONDS": "3000", "SHUTDOWN_ANNOUNCE_SECONDS": "300"}
        server = Server(tmp_path, *SLOW_SERVER, DATABASE_URL=sqlite_url, **variables).start()
        with account(server.url) as client, turn_under_way(client, "hi") as lines:
            server.begin_to_stop()
            until(lambda: get(f"{server.url}/health/ready").status_code == 503)
            server.interrupt()
            assert [("error", "draining")] == [
                (event.name, event.data["code"]) for event in rest_of(lines)
            ]
            assert 0 == server.wait()

    def test_a_request_that_is_still_being_sent_gets_its_turn(
        self, tmp_path: Path, sqlite_url: str
    ):
        server = Server(tmp_path, DATABASE_URL=sqlite_url).start()

        def slowly() -> Generator[bytes]:
            yield b'{"message": '
            server.begin_to_stop()
            until(lambda: "Waiting for connections to close" in server.output)
            yield b'"late"}'

        with account(server.url) as client:
            reply = client.post(
                "/me/chat", content=slowly(), headers={"Content-Type": "application/json"}
            )
        assert (200, "close") == (reply.status_code, reply.headers["Connection"])
        assert 0 == server.wait()

    def test_a_request_that_never_ends_is_told_why_it_is_cut(
        self, tmp_path: Path, sqlite_url: str
    ):
        server = Server(tmp_path, DATABASE_URL=sqlite_url, SHUTDOWN_GRACE_SECONDS="0").start()

        def never() -> Generator[bytes]:
            yield b'{"message": '
            server.begin_to_stop()
            until(lambda: "timeout graceful shutdown exceeded" in server.output)
            yield b" "

        with account(server.url) as client:
            cut = client.post(
                "/me/chat", content=never(), headers={"Content-Type": "application/json"}
            )
        assert (503, "draining") == (cut.status_code, cut.json()["code"])
        assert 0 == server.wait()

    def test_an_orphaned_worker_ends_by_itself(self, tmp_path: Path, sqlite_url: str):
        server = Server(tmp_path, DATABASE_URL=sqlite_url).start()
        (worker,) = server.workers()
        server.kill_first()
        until(lambda: not Path(f"/proc/{worker}").exists())


class TestWorkers:
    @pytest.fixture
    def server(self, tmp_path: Path, postgres, redis_url: str) -> Generator[Server]:
        variables = {"DATABASE_URL": postgres.api, "REDIS_URL": redis_url, "WEB_CONCURRENCY": "2"}
        with Server(tmp_path, **variables) as server:
            until(lambda: server.output.count("Application startup complete") == 2)
            yield server

    def test_they_count_together_and_the_dead_ones_counts_stay(self, server: Server):
        with account(server.url) as client:
            for _ in range(20):
                say(client, "count me")
            # Each is counted behind its answer.
            until(lambda: counted(server) == 20)

            before = server.workers()
            os.kill(min(before), signal.SIGKILL)
            until(lambda: len(server.workers() - before) == 1)
            until(lambda: server.output.count("Application startup complete") == 3)
            assert 20 == counted(server)
            for _ in range(20):
                say(client, "and me")
            until(lambda: counted(server) == 40)

    def test_the_folder_of_counts_does_not_grow_with_those_that_are_killed(
        self, tmp_path: Path, sqlite_url: str
    ):
        folder = tmp_path / "metrics"
        server = Server(
            tmp_path,
            DATABASE_URL=sqlite_url,
            PROMETHEUS_MULTIPROC_DIR=str(folder),
        )
        with server:
            for so_far in range(3):
                with account(server.url) as client:
                    say(client, "count me")
                until(lambda: counted(server) > so_far)  # noqa: B023 - called at once
                os.kill(*server.workers(), signal.SIGKILL)
                until(lambda: server.output.count("Application startup complete") > so_far + 1)  # noqa: B023
            assert 3 == counted(server)
            until(lambda: told(server, "parley_leases_held") == 1)
            kinds = Counter(path.name.rpartition("_")[0] for path in folder.iterdir())

        # One of the parent, one of its worker, one of all the dead.
        assert {"counter", "histogram"} < set(kinds)
        assert 3 >= max(kinds.values())

    def test_one_that_works_is_let_alone_and_one_that_stands_still_is_replaced(
        self, tmp_path: Path, sqlite_url: str
    ):
        server = Server(
            tmp_path, *SLOW_SERVER, DATABASE_URL=sqlite_url, TEST_HEARTBEAT_SECONDS="8"
        )
        with server:
            before = server.workers()
            until(lambda: get(f"{server.url}/health").json()["uptime_seconds"] > 10)
            assert before == server.workers()

            os.kill(min(before), signal.SIGSTOP)
            until(lambda: len(server.workers() - before) == 1)

    def test_one_that_is_killed_fails_no_request_but_its_own(self, server: Server):
        with account(server.url) as client:
            os.kill(min(server.workers()), signal.SIGKILL)
            for _ in range(10):
                with account(server.url) as another:  # a connection of its own
                    say(another, "still there?")
            assert 200 == client.get("/conversations").status_code

    def test_counts_of_a_run_before_are_not_of_this_one(self, tmp_path: Path, sqlite_url: str):
        """Where a container is started again, and its folder is the same."""
        folder = tmp_path / "metrics"
        server = Server(
            tmp_path, DATABASE_URL=sqlite_url, PROMETHEUS_MULTIPROC_DIR=str(folder)
        ).start()
        with account(server.url) as client:
            say(client, "count me")
        until(lambda: counted(server) == 1)
        server.kill()
        (folder / "not-ours").touch()

        with server:
            assert 0 == counted(server)
        assert ["not-ours"] == [path.name for path in folder.iterdir()]

    def test_another_server_beside_it_counts_elsewhere(self, tmp_path: Path, sqlite_url: str):
        """As somebody starts it in a container that serves, where the folder is set for all."""
        folder = str(tmp_path / "metrics")
        one, other = (
            Server(tmp_path, DATABASE_URL=sqlite_url, PROMETHEUS_MULTIPROC_DIR=folder)
            for _ in range(2)
        )
        with one:
            with account(one.url) as client:
                say(client, "count me")
            until(lambda: counted(one) == 1)
            with other:
                assert 0 == counted(other)

            assert 1 == counted(one)
            os.kill(*one.workers(), signal.SIGKILL)
            until(lambda: one.output.count("Application startup complete") == 2)
            assert 1 == counted(one)

    def test_one_that_it_starts_itself_counts_elsewhere_too(self, tmp_path: Path, sqlite_url: str):
        """
        On SIGUSR2 gunicorn starts the program once more, in the environment of the first: that found
        its port taken, left, and took the folder along. No worker could begin any more.
        """
        with Server(tmp_path, DATABASE_URL=sqlite_url) as server:
            with account(server.url) as client:
                say(client, "count me")
            until(lambda: counted(server) == 1)

            server.start_again()
            until(lambda: "Cannot listen on" in server.output)
            until(lambda: len(server.workers()) == 1)

            assert 1 == counted(server)
            os.kill(*server.workers(), signal.SIGKILL)
            until(lambda: server.output.count("Application startup complete") == 2)
            assert 1 == counted(server)

    def test_an_empty_number_of_them_is_one(self, tmp_path: Path, sqlite_url: str):
        """As in a copy of `.env.example`; gunicorn itself would fail."""
        with Server(tmp_path, DATABASE_URL=sqlite_url, WEB_CONCURRENCY="") as server:
            assert 1 == len(server.workers())


class TestBoot:
    def test_what_a_worker_dies_of_is_not_quoted(self, tmp_path: Path):
        program = """
from parley.cli.environment import prepare

def die(settings):
    raise ValueError("canary-4711")

prepare()
from parley.cli.serve import run
from parley.core.settings import load_settings
run(die, load_settings(), "127.0.0.1")
"""
        variables = {"BACKEND_PORT": str(free_port()), "LOG_LEVEL": "DEBUG"}
        dead = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=os.environ | variables,
            capture_output=True, text=True, check=False, timeout=START_SECONDS,
        )  # fmt: skip
        lines = [json.loads(line) for line in dead.stderr.splitlines()]

        assert Arbiter.WORKER_BOOT_ERROR == dead.returncode
        assert "ValueError" in {line.get("exception") for line in lines}
        assert "canary-4711" not in dead.stdout + dead.stderr


class TestUnreadLog:
    def test_who_does_not_read_it_stops_nobody_and_is_told_what_was_lost(
        self, tmp_path: Path, sqlite_url: str
    ):
        reader, writer = os.pipe()
        # As much as it takes: whoever writes now waits for a reader.
        os.set_blocking(writer, False)
        held_back = os.write(writer, b"x" * fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ))
        os.set_blocking(writer, True)
        server = Server(tmp_path, DATABASE_URL=sqlite_url, LOG_LEVEL="DEBUG")
        server.start(stderr=writer)
        os.close(writer)
        with account(server.url) as client:
            say(client, "hello?")
        os.kill(*server.workers(), signal.SIGKILL)
        until(lambda: server.workers() and _listens(server))
        with account(server.url) as client:
            say(client, "still there?")

        with os.fdopen(reader, "rb") as log:
            log.read(held_back)
            # Who lost some says so once there is room; who kept some has them still.
            server.begin_to_stop()
            events = [json.loads(line)["event"] for line in log]

        assert 0 == server.wait()
        assert "log-lines-dropped" in events
        assert "request" in events

    def test_who_never_reads_it_does_not_keep_it_from_ending(
        self, tmp_path: Path, sqlite_url: str
    ):
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        os.write(writer, b"x" * fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ))
        os.set_blocking(writer, True)
        server = Server(tmp_path, DATABASE_URL=sqlite_url)
        server.start(stderr=writer)

        assert 0 == server.stop()
        for descriptor in (reader, writer):
            os.close(descriptor)


def counted(server: Server) -> float:
    """Turns that were answered."""
    chat = {"handler": "/api/v1/{user_id}/chat", "method": "POST", "status": "200"}
    return told(server, "http_requests_total", **chat)


def told(server: Server, name: str, **labels: str) -> float:
    text = get(f"{server.url}/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )


def _listens(server: Server) -> bool:
    try:
        return get(f"{server.url}/health").status_code == 200
    except httpx.TransportError:
        return False
