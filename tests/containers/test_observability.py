"""Prometheus beside three replicas: it sees all of them, and goes on to when some of them are gone."""

from collections.abc import Generator
from functools import partial
from time import time
from typing import Any

import httpx
import pytest

from tests.containers.conftest import Say
from tests.containers.load import under_load, until_more
from tests.containers.stack import Stack
from tests.containers.streams import REPLICAS
from tests.deploy.monitoring import dashboard_queries, metrics_in, rules
from tests.processes import account, get, until

pytestmark = pytest.mark.timeout(900)

# It looks each two seconds here; a lease runs out in ten, and a rate is over a minute.
eventually = partial(until, seconds=240)


class Prometheus:
    def __init__(self, url: str) -> None:
        self._url = f"{url}/api/v1"

    def ask(self, query: str) -> list[dict[str, Any]]:
        answer = get(f"{self._url}/query", params={"query": query})
        assert 200 == answer.status_code, (query, answer.text)
        return list(answer.json()["data"]["result"])

    def number(self, query: str) -> float:
        """Nothing is 0."""
        return sum(float(found["value"][1]) for found in self.ask(query))

    def rings(self, alert: str) -> bool:
        return bool(self.ask(f'ALERTS{{alertname="{alert}",alertstate="firing"}}'))

    def sees_nothing_running(self) -> None:
        """What was asked before has ended, and is counted by each replica as it is looked at now."""
        asked_at = time()
        eventually(lambda: self.number('min(timestamp(up{job="parley"}))') > asked_at)
        eventually(lambda: self.number("sum(parley_turns_running)") == 0)

    def names(self) -> set[str]:
        return set(get(f"{self._url}/label/__name__/values").json()["data"])


@pytest.fixture(scope="module")
def prometheus(replicas: Stack) -> Generator[Prometheus]:
    # By its name: Grafana, of the same profile, has an image that not every registry has.
    replicas.compose("up", "--wait", "--no-deps", "prometheus")
    prometheus = Prometheus(replicas.url("prometheus", 9090))
    eventually(lambda: prometheus.number('up{job="parley"}') == len(REPLICAS))
    yield prometheus
    replicas.compose("rm", "--force", "--stop", "prometheus")


@pytest.fixture
def url(replicas: Stack) -> str:
    return replicas.url("nginx", 8080)


def complete_turns(stack: Stack) -> int:
    return int(stack.psql("SELECT count(*) FROM turns WHERE status = 'complete'"))


def worker_of(stack: Stack, replica: str) -> str:
    return stack.run_in(replica, "cat", "/proc/1/task/1/children").split()[0]


class TestReplicas:
    def test_what_the_dashboard_and_the_alerts_ask_for_is_there(
        self, replicas: Stack, prometheus: Prometheus, url: str, say: Say
    ):
        """Each query of the dashboard has an answer while people chat."""
        queries = dashboard_queries()
        asked = metrics_in(*queries, *(rule["expr"] for rule in rules()))

        with under_load(url) as ends:
            until_more(ends)
            eventually(lambda: [] == [query for query in queries if not prometheus.ask(query)])

        assert set() == asked - prometheus.names()
        say(f"{len(queries)} queries answered, over {len(asked)} metrics; turns: {dict(ends)}")

    def test_what_is_counted_is_what_was_recorded(
        self, replicas: Stack, prometheus: Prometheus, say: Say
    ):
        """Also of a worker that was killed, and by the replicas that are there."""
        query = 'sum(parley_turns_total{outcome="complete"})'
        prometheus.sees_nothing_running()
        counted, recorded = prometheus.number(query), complete_turns(replicas)
        with account(replicas.url("api-2"), "counted@example.com") as client:
            for _ in range(10):
                client.post("/me/chat", json={"message": "count me"})
            eventually(lambda: prometheus.number(query) - counted >= 10)
            assert 10 == complete_turns(replicas) - recorded
            assert 10 == prometheus.number(query) - counted
        before = prometheus.number('count(up{job="parley"} == 1)')

        worker = worker_of(replicas, "api-2")
        replicas.run_in("api-2", "sh", "-c", f"kill -9 {worker}")
        eventually(lambda: worker_of(replicas, "api-2") != worker)
        eventually(lambda: prometheus.number("max(parley_leases_lost)") > 0)
        eventually(lambda: prometheus.number("sum(parley_leases_held)") == before)

        assert 10 == prometheus.number(query) - counted
        eventually(lambda: prometheus.rings("ParleyWorkerDead"))
        say("a worker was killed: no counter went back, and ParleyWorkerDead rings")

    def test_one_that_is_removed_is_forgotten_and_one_that_comes_is_found(
        self, replicas: Stack, prometheus: Prometheus
    ):
        replicas.compose("rm", "--force", "--stop", "api-3")
        try:
            eventually(lambda: prometheus.number('count(up{job="parley"})') == 2)
            assert 2 == prometheus.number("sum(parley_leases_held)")
            # It gave its lease back: nobody has died.
            assert "2" == replicas.psql("SELECT count(*) FROM workers WHERE lease_until > now()")
        finally:
            replicas.compose("up", "--wait", "--no-deps", "api-3")
        eventually(lambda: prometheus.number('count(up{job="parley"} == 1)') == 3)

    def test_without_redis_it_says_so(self, replicas: Stack, prometheus: Prometheus, url: str):
        replicas.compose("stop", "redis")
        try:
            with account(url, "fallback@example.com") as client:
                for _ in range(10):
                    assert 200 == client.post("/me/chat", json={"message": "hi"}).status_code
            eventually(lambda: prometheus.rings("ParleyLimiterOnFallback"))
            assert 0 < prometheus.number("sum(parley_limiter_fallbacks_total)")
        finally:
            replicas.compose("up", "--wait", "--no-deps", "redis")
        eventually(lambda: not prometheus.rings("ParleyLimiterOnFallback"))

    def test_without_the_database_it_says_so(
        self, replicas: Stack, prometheus: Prometheus, url: str
    ):
        replicas.compose("stop", "pgbouncer")
        try:
            eventually(lambda: prometheus.rings("ParleyDatabaseUnreachable"))
            eventually(lambda: prometheus.rings("ParleyNoLease"))
        finally:
            replicas.compose("up", "--wait", "--no-deps", "pgbouncer")
        eventually(lambda: not prometheus.rings("ParleyDatabaseUnreachable"))
        eventually(lambda: not prometheus.rings("ParleyNoLease"))


class TestPort:
    def test_only_this_machine_reaches_it(self, replicas: Stack, prometheus: Prometheus):
        published = replicas.container("prometheus")["NetworkSettings"]["Ports"]["9090/tcp"]

        assert ["127.0.0.1"] == [binding["HostIp"] for binding in published]
        assert httpx.get(f"{replicas.url('prometheus', 9090)}/-/healthy").is_success
