"""A turn's events as a client's library reads them: cut off, and taken up again where it was."""

from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from tests.processes import SLOW_SERVER, Server, account

ASKING = {"message": "hi", "stream": True}


@pytest.fixture
def client(tmp_path: Path, sqlite_url: str) -> Generator[httpx.Client]:
    with (
        Server(tmp_path, *SLOW_SERVER, DATABASE_URL=sqlite_url, TEST_TIMES="3") as server,
        account(server.url) as client,
    ):
        yield client


def resumed(client: httpx.Client, turn_id: str, last_id: str) -> list[ServerSentEvent]:
    path, headers = f"/turns/{turn_id}/events", {"Last-Event-ID": last_id}
    with connect_sse(client, "GET", path, headers=headers) as source:
        return [*source.iter_sse()]


class TestHttpxSse:
    def test_it_reads_a_turn_is_cut_off_and_resumes_where_it_was(
        self, tmp_path: Path, client: httpx.Client
    ):
        with connect_sse(client, "POST", "/me/chat", json=ASKING) as source:
            events = source.iter_sse()
            had = [next(events), next(events)]
        assert [("1", "turn"), ("2", "delta")] == [(event.id, event.event) for event in had]
        turn_id = had[0].json()["turn_id"]
        (tmp_path / "go").touch()

        rest = resumed(client, turn_id, had[-1].id)

        assert ["3", "4", "5", "6"] == [event.id for event in rest]
        assert ["delta", "delta", "delta", "done"] == [event.event for event in rest]
        said = [event.json()["text"] for event in (*had[1:], *rest[:-1])]
        assert ["first ", *["re: hi"] * 3] == said
        assert "".join(said) == rest[-1].json()["reply"]["content"]
        again = resumed(client, turn_id, "0")
        assert [vars(event) for event in (*had, *rest)] == [vars(event) for event in again]

    def test_behind_the_end_it_is_told_that_there_is_no_more(
        self, tmp_path: Path, client: httpx.Client
    ):
        (tmp_path / "go").touch()
        with connect_sse(client, "POST", "/me/chat", json=ASKING) as source:
            *_, done = source.iter_sse()

        path = f"/turns/{done.json()['turn_id']}/events"
        with connect_sse(client, "GET", path, headers={"Last-Event-ID": done.id}) as source:
            assert 204 == source.response.status_code
