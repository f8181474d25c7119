"""Three replicas behind nginx and PgBouncer, beside another stack, used from outside over HTTP."""

import json
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.containers.conftest import Say
from tests.containers.load import under_load, until_more
from tests.containers.stack import Stack, status_of
from tests.containers.streams import REPLICAS
from tests.events import parse
from tests.processes import account, get
from tests.processes import say as say_to

pytestmark = pytest.mark.timeout(600)

USERS, ROUNDS, TURNS_A_ROUND = 20, 7, 20
# Two of each turn, and one of the list behind them; what else is asked is not counted.
TRANSACTIONS = USERS * ROUNDS * (2 * TURNS_A_ROUND + 1)


@pytest.fixture
def url(replicas: Stack) -> str:
    return replicas.url("nginx", 8080)


class TestNginx:
    def test_every_replica_answers_through_it(self, replicas: Stack, url: str):
        with account(url) as client:
            for _ in range(30):
                say_to(client, "who is it?")

        logs = {name: replicas.compose("logs", "--no-color", name) for name in REPLICAS}
        assert dict.fromkeys(REPLICAS, True) == {
            name: "/api/v1/{user_id}/chat" in log for name, log in logs.items()
        }

    def test_an_event_stream_arrives_piece_by_piece(self, url: str, say: Say):
        body = {"message": "slowly one two three four five six", "stream": True}
        model = None
        while model != "paced":
            arrived, text = [], ""
            with account(url) as client, client.stream("POST", "/me/chat", json=body) as stream:
                for line in stream.iter_lines():
                    text += f"{line}\n"
                    arrived += [time.monotonic()] if line.startswith("event: ") else []
            model = parse(text)[-1].data["reply"]["model"]

        say("events arrived after s: " + " ".join(f"{at - arrived[0]:.2f}" for at in arrived))
        # Seven pauses of the model lie between them; held back, they would come all at once.
        assert 9 == len(arrived)
        assert arrived[-1] - arrived[0] > 1

    def test_metrics_are_not_for_everybody(self, replicas: Stack, url: str):
        for path in ("/metrics", "/health/db", "//metrics", "/%6detrics", "/metrics%0A"):
            assert 404 == status_of(f"{url}{path}")
        assert 200 == status_of(f"{replicas.url()}/metrics")

    def test_a_body_that_is_too_large_is_refused_in_parleys_words(self, url: str):
        with account(url) as client:
            for _ in range(20):  # it is a matter of who is faster
                for size in (2_000_000, 20_000_000):
                    refused = client.post("/me/chat", json={"message": "x" * size})
                    problem = refused.json()
                    assert (413, "body-too-large") == (refused.status_code, problem["code"])
                    assert "application/problem+json" == refused.headers["Content-Type"]

    def test_a_body_that_takes_too_long_is_refused_by_the_api_behind_it(
        self, replicas: Stack, url: str
    ):
        """BODY_TIMEOUT_SECONDS is 5 here, and nginx waits a minute for each piece."""
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=60) as slow:
            slow.sendall(
                b"POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            )
            answer = slow.makefile("rb").read()

        assert answer.startswith(b"HTTP/1.1 408 "), answer
        assert b'"code":"body-timeout"' in answer

    def test_its_lines_are_what_they_seem(self, replicas: Stack, url: str):
        """Row 55."""
        marks = ("\u2028forged", "\u202egnp", "\x85next", "\x1b[31mred", '"} {"event":"x')
        for mark in marks:
            assert get(f"{url}/{quote(mark)}").status_code == 404
        printed = replicas.compose("logs", "--no-color", "--no-log-prefix", "nginx")
        # Compose begins a line with what clears a terminal's.
        lines = [
            f"{{{line.partition('{')[2]}" for line in printed.split("\n") if '"request"' in line
        ]

        assert lines
        assert [] == [line for line in lines if not (line.isascii() and line.isprintable())]
        assert lines == [line for line in lines if "request" == json.loads(line)["event"]]


class TestRollingRestart:
    def test_it_fails_no_request(self, replicas: Stack, url: str, say: Say):
        with under_load(url) as ends:
            for replica in REPLICAS:
                until_more(ends)
                replicas.compose("restart", "--no-deps", replica)
                replicas.compose("up", "--wait", "--no-deps", "--no-recreate", replica)
            for replica in REPLICAS:  # as an upgrade does it: another container, another address
                until_more(ends)
                replicas.compose("up", "--wait", "--no-deps", "--force-recreate", replica)
        say(f"turns while each of three replicas was restarted: {dict(ends)}")
        assert {"200", "stream done"} == set(ends)


class TestPooler:
    def test_5000_transactions_no_error_and_no_identity_of_another(
        self, replicas: Stack, url: str, say: Say
    ):
        def use(number: int) -> tuple[int, Counter[int]]:
            """How many foreign words were seen, and how the requests ended."""
            leaks, statuses = 0, Counter[int]()
            with account(url, f"pooled-{number}-{uuid4().hex}@example.com") as client:
                mine = f"mine-{number}"
                for _ in range(ROUNDS):
                    for _ in range(TURNS_A_ROUND):
                        reply = client.post("/me/chat", json={"message": mine})
                        statuses[reply.status_code] += 1
                        leaks += mine not in reply.json()["reply"]["content"].split()
                    listed = client.get("/conversations", params={"limit": 100})
                    statuses[listed.status_code] += 1
                    titles = {item["title"] for item in listed.json()["items"]}
                    leaks += titles != {mine}
            return leaks, statuses

        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(use, range(USERS)))
        statuses = sum((result[1] for result in results), Counter[int]())
        say(f"{TRANSACTIONS} transactions of {USERS} users through PgBouncer: {dict(statuses)}")
        assert "transaction" == replicas.run_in("api", "printenv", "DATABASE_POOLER").strip()
        assert 0 == sum(leaks for leaks, _ in results)
        assert {200} == set(statuses)
