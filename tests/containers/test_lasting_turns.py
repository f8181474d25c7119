"""
Turns that survive: a socket, a replica, Redis.

The second replica runs them. Those who resume ask the two others, and what they get is compared
with what somebody was sent who stayed with the second.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager
from itertools import cycle, islice
from uuid import uuid4

import httpx
import pytest

from parley.crud.ports import LEASE_SECONDS
from tests.containers.conftest import Say
from tests.containers.stack import Stack
from tests.containers.streams import (
    Clients,
    ask,
    begin,
    events_of,
    frames_of,
    message,
    one_user,
    resume,
)
from tests.processes import get, until
from tests.processes import say as say_to

pytestmark = pytest.mark.timeout(600)

LONG = message("steadily", 600)
ENDLESS = message("slowly", 5000)
OTHERS = ("api", "api-3")


@pytest.fixture
def at(replicas: Stack) -> Generator[Clients]:
    with one_user(replicas) as clients:
        yield clients


def first(count: int, client: httpx.Client, turn_id: str, after: int) -> list[bytes]:
    """Events behind one; then the reader hangs up."""
    with client.stream("GET", f"/turns/{turn_id}/events", params={"after": after}) as answer:
        return list(islice(frames_of(answer), count))


def assert_all_resume_it(at: Clients, turn_id: str, whole: list[bytes]) -> None:
    """From every tenth event, to the byte."""
    for replica in OTHERS:
        for after in range(0, len(whole), 10):
            assert whole[after:] == resume(at[replica], turn_id, after).whole(), (replica, after)


class TestResume:
    def test_from_every_tenth_event_it_is_the_same_while_it_runs_and_after(
        self, at: Clients, say: Say
    ):
        turn_id = begin(at["api-2"], LONG)
        direct = resume(at["api-2"], turn_id)
        began_at = time.monotonic()
        # Half of them are ahead of it, and wait for it.
        readers = {
            (replica, after): resume(at[replica], turn_id, after)
            for after in range(0, 302, 10)
            for replica in OTHERS
        }
        assert direct.is_reading
        whole = direct.whole()
        say(f"a turn of {len(whole)} events in {time.monotonic() - began_at:.1f} s")

        assert [1 + number for number in range(602)] == [e.id for e in events_of(whole)]
        for (replica, after), reader in readers.items():
            assert whole[after:] == reader.whole(), (replica, after)
        assert_all_resume_it(at, turn_id, whole)

    def test_who_hangs_up_after_every_tenth_event_and_goes_elsewhere_misses_nothing(
        self, at: Clients
    ):
        turn_id = begin(at["api-2"], LONG)
        direct = resume(at["api-2"], turn_id)
        heard: list[bytes] = []
        for replica in cycle(OTHERS):
            heard += first(10, at[replica], turn_id, len(heard))
            if len(heard) % 10:
                break

        assert direct.whole() == heard


class TestCancel:
    def test_from_a_third_replica_it_ends_for_who_reads_at_another(self, at: Clients, say: Say):
        turn_id = begin(at["api-2"], ENDLESS)
        direct, reader = resume(at["api-2"], turn_id), resume(at["api-3"], turn_id)
        reader.until_heard(5)

        asked_at = time.monotonic()
        assert 202 == at["api"].post(f"/turns/{turn_id}/cancel").status_code
        end = reader.last()
        seconds = time.monotonic() - asked_at
        say(f"cancelled at another replica, told at a third after {seconds:.2f} s")

        assert direct.whole() == reader.whole()
        assert ("done", "cancelled") == (end.name, end.data["reply"]["status"])
        assert ENDLESS.startswith(end.data["reply"]["content"].rstrip())
        assert "cancelled" == at["api"].get(f"/turns/{turn_id}").json()["status"]
        # It is to end within one; a busy machine is no fault.
        assert seconds < 2


@contextmanager
def killed(stack: Stack, replica: str) -> Generator[None]:
    """Docker starts nothing again that was killed by hand, whatever `restart` says."""
    stack.compose("kill", "--signal", "SIGKILL", replica)
    try:
        yield
        state = stack.container(replica)["State"]
        assert ("exited", 137) == (state["Status"], state["ExitCode"])
    finally:
        stack.compose("up", "--wait", "--no-deps", "--no-recreate", replica)


class TestKill:
    def test_who_reads_is_told_nothing_half_is_kept_and_the_key_begins_anew(
        self, at: Clients, replicas: Stack, say: Say
    ):
        before = say_to(at["api"], "before")
        conversation_id = before["conversation_id"]
        text, key = message("slowly", 100), uuid4().hex
        asked = {"message": text, "conversation_id": conversation_id}
        direct = ask(at["api-2"], text, key=key, conversation_id=conversation_id)
        reader = resume(at["api-3"], direct.turn_id)
        reader.until_heard(5)

        killed_at = time.monotonic()
        with killed(replicas, "api-2"):
            same = at["api"].post("/me/chat", json=asked, headers={"Idempotency-Key": key})
            end = reader.last()
            seconds = time.monotonic() - killed_at
            direct.until_it_ends()
            late = resume(at["api"], direct.turn_id).last()
            lost = at["api"].get(f"/turns/{direct.turn_id}").json()
            conversation = at["api"].get(f"/conversations/{conversation_id}").json()
            anew = at["api"].post("/me/chat", json=asked, headers={"Idempotency-Key": key})
        say(f"killed, and told so elsewhere after {seconds:.1f} s")

        assert direct.is_cut_off
        assert ("error", "worker-lost") == (end.name, end.data["code"])
        assert end.data == late.data
        assert seconds < LEASE_SECONDS + 5
        assert (503, "worker-lost") == (same.status_code, same.json()["code"])
        assert ("failed", text) == (lost["status"], lost["message"]["content"])
        assert "reply" not in lost
        assert [before["message"], before["reply"]] == conversation["messages"]
        assert (2, None) == (conversation["length"], conversation["running_turn"])
        assert 200 == anew.status_code
        assert direct.turn_id != anew.json()["turn_id"]
        assert [3, 4] == [anew.json()[side]["position"] for side in ("message", "reply")]
        assert "4" == replicas.psql(
            f"SELECT count(*) FROM messages WHERE conversation_id = '{conversation_id}'"  # noqa: S608
        )


def _is_away(stack: Stack, replica: str) -> bool:
    """As the replica has found out by itself."""
    metrics = get(f"{stack.url(replica)}/metrics").text
    return "parley_redis_away 0.0" not in metrics


class TestRedis:
    @pytest.mark.parametrize(("away", "back"), [("stop", "start"), ("pause", "unpause")])
    def test_while_it_is_away_turns_go_on_and_behind_it_all_is_as_before(
        self, at: Clients, replicas: Stack, away: str, back: str, say: Say
    ):
        text = message("slowly", 100)
        direct = ask(at["api-2"], text)
        reader = resume(at["api-3"], direct.turn_id)
        long = ask(at["api-2"], ENDLESS)
        follower = resume(at["api-3"], long.turn_id)
        for reading in (reader, follower):
            reading.until_heard(4)

        replicas.compose(away, "redis")
        try:
            assert direct.is_reading
            self.check_cancel(at, say)
            late = resume(at["api"], direct.turn_id, after=3)
            whole = events_of(direct.whole())
            for resumed in (reader, late):
                assert whole[-1].data == resumed.last().data
            told = [e.data["text"] for e in events_of(reader.frames) if e.name == "delta"]
        finally:
            replicas.compose(back, "redis")

        assert [1 + number for number in range(102)] == [event.id for event in whole]
        assert f"{text} " == whole[-1].data["reply"]["content"] == "".join(told)
        recorded = at["api"].get(f"/turns/{direct.turn_id}").json()
        assert ("complete", whole[-1].data["reply"]) == (recorded["status"], recorded["reply"])

        seconds = until(lambda: not any(_is_away(replicas, replica) for replica in at))
        said = len(long.frames)
        follower.until_heard(said + 5)
        say(f"Redis is used again {seconds:.1f} s after `{back}`")
        at["api"].post(f"/turns/{long.turn_id}/cancel")
        assert long.whole() == follower.whole()
        assert_all_resume_it(at, long.turn_id, long.whole())

    def check_cancel(self, at: Clients, say: Say) -> None:
        running = ask(at["api-2"], ENDLESS)
        running.until_heard(3)
        asked_at = time.monotonic()
        assert 202 == at["api-3"].post(f"/turns/{running.turn_id}/cancel").status_code
        end = running.last()
        seconds = time.monotonic() - asked_at
        say(f"without Redis: cancelled at another replica, told after {seconds:.2f} s")
        assert ("done", "cancelled") == (end.name, end.data["reply"]["status"])
