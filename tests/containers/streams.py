"""A user at each of three replicas, and event streams that are read as they come, to the byte."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import Any
from uuid import uuid4

import httpx

from tests.containers.stack import Stack
from tests.events import ServerEvent, parse
from tests.processes import PATIENCE_SECONDS, account, until

REPLICAS = ("api", "api-2", "api-3")

Clients = dict[str, httpx.Client]


@contextmanager
def one_user(stack: Stack) -> Generator[Clients]:
    """Somebody new; a client of theirs for each replica, past nginx."""
    with account(stack.url(), f"{uuid4().hex}@example.com") as client, ExitStack() as clients:
        yield {
            replica: clients.enter_context(
                httpx.Client(
                    base_url=f"{stack.url(replica)}/api/v1", headers=client.headers, timeout=60
                )
            )
            for replica in REPLICAS
        }


def message(pace: str, words: int) -> str:
    """See `paced_server`: for each of its words a pause and a piece."""
    return " ".join([pace, *map(str, range(2, words + 1))])


def frames_of(answer: httpx.Response) -> Iterator[bytes]:
    """The events as they were sent, without the comments that keep a connection open."""
    assert 200 == answer.status_code, answer.read()
    unread = b""
    for some in answer.iter_raw():
        *whole, unread = (unread + some).split(b"\n\n")
        yield from (frame + b"\n\n" for frame in whole if not frame.startswith(b":"))
    assert b"" == unread


def events_of(frames: list[bytes]) -> list[ServerEvent]:
    return parse(b"".join(frames).decode())


class Reader:
    """Reads a stream as it comes, in a thread of its own."""

    def __init__(self, client: httpx.Client, method: str, path: str, **request: Any) -> None:
        self.frames: list[bytes] = []
        self.is_cut_off = False
        self._request = (client, method, path, request)
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        client, method, path, request = self._request
        try:
            with client.stream(method, path, **request) as answer:
                for frame in frames_of(answer):
                    self.frames.append(frame)
        except httpx.TransportError:
            self.is_cut_off = True

    @property
    def is_reading(self) -> bool:
        return self._thread.is_alive()

    @property
    def turn_id(self) -> str:
        self.until_heard(1)
        return str(events_of(self.frames[:1])[0].data["turn_id"])

    def until_heard(self, count: int) -> None:
        until(lambda: len(self.frames) >= count or not self.is_reading)
        assert len(self.frames) >= count

    def until_it_ends(self) -> None:
        self._thread.join(PATIENCE_SECONDS)
        assert not self.is_reading

    def whole(self) -> list[bytes]:
        """All of it, once it has ended as it should."""
        self.until_it_ends()
        assert not self.is_cut_off
        return self.frames

    def last(self) -> ServerEvent:
        return events_of(self.whole())[-1]


def ask(client: httpx.Client, text: str, *, key: str | None = None, **body: Any) -> Reader:
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {"message": text, "stream": True, **body}
    return Reader(client, "POST", "/me/chat", json=body, headers=headers)


def begin(client: httpx.Client, text: str) -> str:
    """A turn whose socket is closed behind its first event."""
    body = {"message": text, "stream": True}
    with client.stream("POST", "/me/chat", json=body) as answer:
        return str(events_of([next(frames_of(answer))])[0].data["turn_id"])


def resume(client: httpx.Client, turn_id: str, after: int = 0) -> Reader:
    return Reader(client, "GET", f"/turns/{turn_id}/events", params={"after": after})
