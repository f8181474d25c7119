"""Servers of several workers, and several servers: they share their limits through Redis."""

from pathlib import Path

import httpx

from parley.core.ids import new_id
from tests.processes import SLOW_SERVER, Server, account, get, post, until


def chat(client: httpx.Client) -> httpx.Response:
    return client.post("/me/chat", json={"message": "hi"})


class TestTwoServers:
    def test_they_share_a_limit_and_their_workers_too(
        self, tmp_path: Path, sqlite_url: str, redis_url: str
    ):
        variables = {
            "DATABASE_URL": sqlite_url,
            "REDIS_URL": redis_url,
            "RATE_LIMIT_CHAT": "6/hour",
            # The same for both: in development each folder has its own.
            "AUTH_SECRET": new_id().hex,
            # A busy machine is not to be taken for an outage.
            "TEST_REDIS_SECONDS": "10",
        }
        (tmp_path / "go").touch()
        one = Server(tmp_path, *SLOW_SERVER, WEB_CONCURRENCY="2", **variables)
        two = Server(tmp_path, *SLOW_SERVER, **variables)
        with one, two, account(one.url) as client:
            elsewhere = httpx.Client(base_url=f"{two.url}/api/v1", headers=client.headers)
            with elsewhere:
                answers = [chat(c) for _ in range(4) for c in (client, elsewhere)]

            assert [200] * 6 + [429] * 2 == [answer.status_code for answer in answers]
            assert '"chat";q=6;w=3600' == answers[0].headers["RateLimit-Policy"]

    def test_without_redis_every_worker_says_so_and_goes_on(self, tmp_path: Path, sqlite_url: str):
        nowhere = "redis://127.0.0.1:1/0"
        with Server(
            tmp_path, DATABASE_URL=sqlite_url, REDIS_URL=nowhere, WEB_CONCURRENCY="2"
        ) as server:
            with account(server.url) as client:

                def both_know() -> bool:
                    # A connection of its own: which worker takes it is chance.
                    headers = dict(client.headers)
                    url = f"{server.url}/api/v1/me/chat"
                    answer = post(url, json={"message": "hi"}, headers=headers)
                    assert 200 == answer.status_code
                    text = get(f"{server.url}/metrics").text
                    return "parley_redis_away 2.0" in text

                until(both_know)

        assert 2 == server.output.count("redis-away")
