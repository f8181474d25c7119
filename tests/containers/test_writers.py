"""Many who write at once, at several replicas: each is answered once, and nothing has a gap."""

import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Barrier, Lock
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.containers.conftest import Say
from tests.containers.stack import Stack
from tests.containers.streams import REPLICAS, Clients, message, one_user
from tests.processes import get
from tests.transcripts import read_whole

pytestmark = pytest.mark.timeout(600)

REQUESTS, KEYS = 50, 6
WRITERS, TURNS = 30, 2000


@pytest.fixture
def at(replicas: Stack) -> Generator[Clients]:
    with one_user(replicas) as clients:
        yield clients


def model_calls(stack: Stack) -> float:
    """Of all replicas: each has counted when a model began to speak."""
    return sum(
        float(line.rpartition(" ")[2])
        for replica in REPLICAS
        for line in get(f"{stack.url(replica)}/metrics").text.splitlines()
        if line.startswith("parley_model_first_piece_seconds_count")
    )


class TestSameKey:
    def test_fifty_at_once_are_one_turn_one_model_call_and_one_answer(
        self, at: Clients, replicas: Stack, say: Say
    ):
        """Six times, for each replica may be the first."""
        calls, together = model_calls(replicas), Barrier(REQUESTS)
        ran: list[str] = []
        replayed = 0
        with (
            httpx.Client(
                base_url=replicas.url("nginx", 8080), headers=at["api"].headers, timeout=60
            ) as client,
            ThreadPoolExecutor(REQUESTS) as threads,
        ):

            def send(key: str) -> httpx.Response:
                together.wait()
                body, headers = {"message": message("slowly", 5)}, {"Idempotency-Key": key}
                return client.post("/api/v1/me/chat", json=body, headers=headers)

            for _ in range(KEYS):
                answers = list(threads.map(send, [uuid4().hex] * REQUESTS))
                assert {200} == {answer.status_code for answer in answers}
                assert 1 == len({answer.content for answer in answers})
                ran.append(answers[0].json()["turn_id"])
                replayed += sum("Idempotency-Replayed" in one.headers for one in answers)

        assert KEYS == model_calls(replicas) - calls
        user_id = at["api"].get("/auth/me").json()["id"]
        turns = replicas.psql(f"SELECT id FROM turns WHERE user_id = '{user_id}'")  # noqa: S608
        assert sorted(ran) == sorted(turns.split())
        say(f"{KEYS} times {REQUESTS} requests with one key: {len(ran)} turns;"
            f" {replayed} came when it had ended")  # fmt: skip


class TestOneConversation:
    def test_of_thirty_writers_at_two_replicas_every_turn_is_there_once_and_whole(
        self, at: Clients, say: Say
    ):
        conversation_id = at["api"].post("/conversations", json={}).json()["id"]
        numbers, lock = count(1), Lock()
        refused = 0

        def write(writer: int) -> list[dict[str, Any]]:
            nonlocal refused
            client, acknowledged = at[("api-2", "api-3")[writer % 2]], []
            while (number := next(numbers)) <= TURNS:
                body = {
                    "message": f"number {number} of writer {writer}",
                    "conversation_id": conversation_id,
                    "if_busy": "wait",
                }
                headers = {"Idempotency-Key": uuid4().hex}
                while (answer := client.post("/me/chat", json=body, headers=headers)).is_error:
                    assert "turn-in-progress" == answer.json()["code"], answer.text
                    with lock:
                        refused += 1
                acknowledged.append(answer.json())
            return acknowledged

        began_at = time.monotonic()
        with ThreadPoolExecutor(WRITERS) as threads:
            written = [turn for turns in threads.map(write, range(WRITERS)) for turn in turns]
        seconds = time.monotonic() - began_at
        say(f"{TURNS} turns of one conversation by {WRITERS} writers in {seconds:.0f} s,"
            f" {TURNS / seconds:.0f} turns/s; waited in vain: {refused}")  # fmt: skip

        asked, replies = read_whole(at["api"], conversation_id)
        assert [f"{one['content']} " for one in asked] == [one["content"] for one in replies]
        by_position = {turn["message"]["position"]: turn for turn in written}
        assert TURNS == len(written) == len(by_position)
        for side, shown in (("message", asked), ("reply", replies)):
            assert [by_position[position][side] for position in sorted(by_position)] == shown
        assert TURNS == len({one["content"] for one in asked})
