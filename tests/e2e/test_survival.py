"""A server of its own process, killed and started again, on both databases."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from parley.crud.ports import LEASE_SECONDS
from tests.events import parse
from tests.processes import SLOW_SERVER, Server, account, get, say

# What is promised: the lease, and five seconds.
FREE_AGAIN_SECONDS = LEASE_SECONDS + 5


@pytest.fixture(params=["sqlite", "postgres"])
def variables(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "sqlite":
        return {"DATABASE_URL": request.getfixturevalue("sqlite_url")}
    return {"DATABASE_URL": request.getfixturevalue("postgres").api}


class TestKill:
    def test_a_conversation_goes_on_after_kill_9(self, tmp_path: Path, variables):
        server = Server(tmp_path, **variables).start()
        with account(server.url) as client:
            first = say(client, "remember me please")
        server.kill()

        with server, account(server.url) as client:
            again = say(client, "well?", first["conversation_id"])
        assert (
            "You said: well?\nI remember 2 earlier messages; you last said: remember me please."
        ) == again["reply"]["content"]

    def test_kill_9_in_mid_turn_leaves_no_half_turn_and_the_conversation_goes_on(
        self, tmp_path: Path, variables
    ):
        server = Server(tmp_path, *SLOW_SERVER, **variables).start()
        with account(server.url) as client:
            made = client.post("/conversations", json={}).json()
            body = {"message": "lost", "conversation_id": made["id"], "stream": True}
            with client.stream("POST", "/me/chat", json=body) as stream:
                lines = stream.iter_lines()
                while next(lines) != 'data: {"text":"first "}':
                    pass
                server.kill()
        killed_at = time.monotonic()
        (tmp_path / "go").touch()

        with server, account(server.url) as client:
            while True:
                body = {"message": "found", "conversation_id": made["id"]}
                # However late a busy machine says so: who asks by then may still be refused.
                asked_after = time.monotonic() - killed_at
                answer = client.post("/me/chat", json=body)
                if answer.status_code == 200:
                    break
                assert "turn-in-progress" == answer.json()["code"]
                assert asked_after < FREE_AGAIN_SECONDS
                time.sleep(0.2)
            detail = client.get(f"/conversations/{made['id']}").json()

        assert ["found", "first re: found"] == [m["content"] for m in detail["messages"]]
        assert [1, 2] == [message["position"] for message in detail["messages"]]


class TestDroppedStream:
    def test_who_drops_the_stream_finds_the_turn_whole(self, tmp_path: Path, variables):
        with (
            Server(tmp_path, *SLOW_SERVER, **variables) as server,
            account(server.url) as client,
        ):
            with client.stream("POST", "/me/chat", json={"message": "hi", "stream": True}) as it:
                started = parse(
                    "".join(
                        f"{line}\n" for line, _ in zip(it.iter_lines(), range(4), strict=False)
                    )
                )
            (tmp_path / "go").touch()

            path = f"/conversations/{started[0].data['conversation_id']}"
            while (detail := client.get(path).json())["running_turn"] is not None:
                time.sleep(0.05)
        assert ["hi", "first re: hi"] == [message["content"] for message in detail["messages"]]


class TestStart:
    def test_settings_database_schema_ready_in_this_order_and_down_again(self, tmp_path: Path):
        """The whole application, from nothing."""
        parley = [sys.executable, "-m", "parley.cli"]

        def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*parley, *command], cwd=tmp_path, env=os.environ | variables,
                capture_output=True, text=True, check=False,
            )  # fmt: skip

        wrong = run("serve", BACKEND_PORT="no", HISTORY_MAX_MESSAGES="0")
        assert 1 == wrong.returncode
        assert ["BACKEND_PORT", "HISTORY_MAX_MESSAGES"] == [
            line.partition(":")[0] for line in wrong.stderr.splitlines()
        ]

        assert "run `parley migrate`" in run("doctor").stdout
        assert 0 == run("migrate").returncode
        assert 0 == run("doctor").returncode

        with Server(tmp_path) as server:
            assert 200 == get(f"{server.url}/health/ready").status_code
            taken = run("serve", BACKEND_PORT=str(server.port))
            assert 1 == taken.returncode
            assert f"Cannot listen on 127.0.0.1:{server.port}" in taken.stderr
        assert "Finished server process" in server.output
        assert 0o600 == stat.S_IMODE((tmp_path / "var/auth-secret").stat().st_mode)
