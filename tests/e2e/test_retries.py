"""A server that dies at each point of a turn, and a client that says again what it got no answer to."""

import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.processes import Server, account

MORTAL_SERVER = (sys.executable, str(Path(__file__).with_name("mortal_server.py")))
# A busy machine stands still for less, and those who died are waited for no longer.
LEASE_SECONDS = 5
PATIENCE_SECONDS = 30


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite_url")
    return request.getfixturevalue("postgres").api


def answered(client: httpx.Client, body: dict[str, str], key: dict[str, str]) -> httpx.Response:
    """Asks until there is an answer: who joins a turn whose process has died is told so, some time."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = client.post("/me/chat", json=body, headers=key)
        if answer.status_code == 200:
            return answer
        assert (503, "worker-lost") == (answer.status_code, answer.json()["code"])
        assert time.monotonic() < give_up_at


class TestSameKeyAfterADeath:
    @pytest.mark.parametrize(
        ("point", "times_asked", "is_replayed"),
        [
            ("before the claim", 1, None),
            ("before the commit of the claim", 1, None),
            ("after the commit of the claim", 1, None),
            ("before the commit of the record", 2, None),
            ("after the commit of the record", 1, "true"),
        ],
    )
    def test_there_is_one_turn_wherever_the_process_dies(
        self,
        tmp_path: Path,
        database_url: str,
        point: str,
        times_asked: int,
        is_replayed: str | None,
    ):
        server = Server(
            tmp_path,
            *MORTAL_SERVER,
            DATABASE_URL=database_url,
            TEST_LEASE_SECONDS=str(LEASE_SECONDS),
        )
        with server, account(server.url) as client:
            made = client.post("/conversations", json={}).json()
            asking = {"message": "once", "conversation_id": made["id"]}
            key = {"Idempotency-Key": "the-same"}
            (tmp_path / "die-at").write_text(point)
            with pytest.raises(httpx.RemoteProtocolError):
                client.post("/me/chat", json=asking, headers=key)
            assert not (tmp_path / "die-at").exists()

            # By then gunicorn has started another.
            answer = answered(client, asking, key)
            again = client.post("/me/chat", json=asking, headers=key)
            detail = client.get(f"/conversations/{made['id']}").json()

        assert [answer.json()["message"], answer.json()["reply"]] == detail["messages"]
        assert [1, 2] == [message["position"] for message in detail["messages"]]
        assert None is detail["running_turn"]
        assert is_replayed == answer.headers.get("Idempotency-Replayed")
        assert (answer.json(), "true") == (again.json(), again.headers.get("Idempotency-Replayed"))
        assert times_asked == len((tmp_path / "asked").read_text().splitlines())
