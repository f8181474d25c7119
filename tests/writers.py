"""Users who write turns and files as fast as they can, and what must be there of it behind a restore."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from threading import Event

import httpx

from tests.processes import account, say, until
from tests.transcripts import read_whole

WRITERS = 3


def _write(client: httpx.Client, until_told: Event, written: list[str]) -> None:
    """Turns and files, one after the other, and a file that goes again."""
    conversation_id = None
    while not until_told.is_set():
        content = f"file {len(written)} of {id(written)}".encode()
        file = client.post("/files", files={"file": ("a.txt", content, "text/plain")}).json()
        body = {
            "message": f"message {len(written)}",
            "conversation_id": conversation_id,
            "attachments": [file["id"]],
        }
        answer = client.post("/me/chat", json=body)
        assert 200 == answer.status_code, answer.text
        conversation_id = answer.json()["conversation_id"]
        written.append(conversation_id)
        gone = client.post("/files", files={"file": ("b.txt", b"gone", "text/plain")}).json()
        assert client.delete(f"/files/{gone['id']}").is_success


def _email(number: int) -> str:
    return f"writer-{number}@example.com"


@contextmanager
def writing(url: str) -> Iterator[list[list[str]]]:
    told = Event()
    written: list[list[str]] = [[] for _ in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as threads:

        def run(number: int) -> None:
            with account(url, _email(number)) as client:
                _write(client, told, written[number])

        running = [threads.submit(run, number) for number in range(WRITERS)]
        try:
            until(lambda: all(written) or any(one.done() for one in running))
            yield written
        finally:
            told.set()
    for one in running:
        one.result()


def until_all_have_written(written: list[list[str]]) -> list[int]:
    """And how many turns each has been answered by then."""
    before = [len(turns) for turns in written]
    until(lambda: all(len(turns) > b for turns, b in zip(written, before, strict=True)))
    return [len(turns) for turns in written]


def check(url: str, number: int, at_least: int) -> None:
    """Everything that this writer was answered before the backup is there, whole and gapless."""
    with account(url, _email(number)) as client:
        (conversation,) = client.get("/conversations").json()["items"]
        asked, replies = read_whole(client, conversation["id"])
        assert [f"message {n}" for n in range(len(asked))] == [one["content"] for one in asked]
        assert at_least <= len(asked)
        for message, reply in zip(asked, replies, strict=True):
            assert reply["content"].startswith(f"You said: {message['content']}\n")
            for file in message["attachments"]:
                content = client.get(f"/files/{file['id']}/content")
                assert 200 == content.status_code
                assert file["sha256"] == sha256(content.content).hexdigest()
        # A turn that was running then does not hold it up.
        assert "You said: on" in say(client, "on", conversation["id"])["reply"]["content"]
