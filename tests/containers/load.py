"""Users who chat all the time, while something is done to what they chat with."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from uuid import uuid4

import httpx

from tests.events import parse
from tests.processes import account, until


@contextmanager
def under_load(url: str, clients: int = 4) -> Iterator[Counter[str]]:
    """Turns on new connections without end, half of them streams; counts how they ended."""
    ends: Counter[str] = Counter()
    enough = Event()

    def load(number: int) -> None:
        with account(url, f"load-{number}-{uuid4().hex}@example.com") as client:
            headers = {**client.headers, "Connection": "close"}
            while not enough.is_set():
                body = {"message": "slowly one two three", "stream": number % 2 == 0}
                try:
                    answer = client.post("/me/chat", json=body, headers=headers)
                except httpx.TransportError as error:
                    ends[type(error).__name__] += 1
                    continue
                if body["stream"] and answer.status_code == 200:
                    ends[f"stream {parse(answer.text)[-1].name}"] += 1
                else:
                    ends[str(answer.status_code)] += 1

    with ThreadPoolExecutor(clients) as threads:
        running: list[Future[None]] = [threads.submit(load, number) for number in range(clients)]
        try:
            yield ends
        finally:
            enough.set()
        for client in running:
            client.result()


def until_more(ends: Counter[str]) -> None:
    seen = ends.total()
    until(lambda: ends.total() > seen + 8)
