"""A client of files, as cheap as Python can: it shares the machine with the server that it measures."""

import hashlib
import json
import multiprocessing
import random
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from multiprocessing.synchronize import Event
from threading import Barrier
from typing import Any

MB = 1024**2
PATIENCE_SECONDS = 120
_BLOCK = random.Random(1).randbytes(MB)  # noqa: S311 - no secret
_BOUNDARY = "a-boundary-of-the-bench"
_HEAD = (
    f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="bench.bin"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
).encode()
_TAIL = f"\r\n--{_BOUNDARY}--\r\n".encode()
_SPAWN = multiprocessing.get_context("spawn")


def nothing() -> None:
    pass


@dataclass(frozen=True)
class Client:
    """`begun` of a transfer is called as soon as its first bytes are on their way."""

    port: int
    token: str

    def upload(self, size_mb: int, begun: Callable[[], object] = nothing) -> str:
        """Returns its id; the server has seen the very bytes that were sent."""

        def form() -> Generator[bytes]:
            yield _HEAD
            for number in range(size_mb):
                yield _BLOCK
                if number == 0:
                    begun()
            yield _TAIL

        headers = {
            "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
            "Content-Length": str(len(_HEAD) + size_mb * MB + len(_TAIL)),
        }
        with self._asked("POST", "", form(), headers) as answer:
            file = json.load(answer)
        if file["sha256"] != sha256_of(size_mb):
            msg = "What the server took is not what was sent."
            raise RuntimeError(msg)
        return str(file["id"])

    def download(self, file_id: str, size_mb: int, begun: Callable[[], object] = nothing) -> None:
        digest, buffer = hashlib.sha256(), memoryview(bytearray(MB))
        with self._asked("GET", f"/{file_id}/content") as answer:
            begun()
            while count := answer.readinto(buffer):
                digest.update(buffer[:count])
        if digest.hexdigest() != sha256_of(size_mb):
            msg = "What the server gave is not what was sent."
            raise RuntimeError(msg)

    def delete(self, file_id: str) -> None:
        with self._asked("DELETE", f"/{file_id}"):
            pass

    @contextmanager
    def _asked(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Generator[HTTPResponse]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        headers = {"Authorization": self.token, **(headers or {})}
        try:
            connection.request(method, f"/api/v1/files{path}", body, headers)
            answer = connection.getresponse()
            if answer.status not in {200, 201}:
                msg = f"{answer.status}: {answer.read().decode()}"
                raise RuntimeError(msg)
            yield answer
        finally:
            connection.close()


def sha256_of(size_mb: int) -> str:
    digest = hashlib.sha256()
    for _ in range(size_mb):
        digest.update(_BLOCK)
    return digest.hexdigest()


def in_process(call: Callable[..., Any], *args: Any) -> Any:
    """What it returns, from a process of its own."""
    with _SPAWN.Pool(1) as pool:
        return pool.apply(call, args)


@contextmanager
def crowd(
    transfer: Callable[[Callable[[], object]], object], count: int
) -> Generator[Callable[[], bool]]:
    """So many of a transfer, in one process of their own. Yields, when all run, whether all still do."""
    begun, over = _SPAWN.Event(), _SPAWN.Event()
    process = _SPAWN.Process(target=_transfer, args=(transfer, count, begun, over))
    process.start()
    while not begun.wait(0.1):
        if not process.is_alive():
            break
    yield lambda: process.is_alive() and not over.is_set()
    process.join()
    if process.exitcode != 0:
        msg = "A transfer failed."
        raise RuntimeError(msg)


def _transfer(
    transfer: Callable[[Callable[[], object]], object], count: int, begun: Event, over: Event
) -> None:
    together = Barrier(count, action=begun.set)

    def one() -> None:
        transfer(partial(together.wait, PATIENCE_SECONDS))
        over.set()

    with ThreadPoolExecutor(count) as threads:
        for running in [threads.submit(one) for _ in range(count)]:
            running.result()
