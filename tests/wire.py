"""HTTP as bytes on a socket: for what no client library would send."""

import json
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from select import poll, select
from types import TracebackType
from typing import Any, Self

PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The problem's, of an answer that is one in every respect."""
        problem: dict[str, Any] = json.loads(self.body)
        assert "application/problem+json" == self.headers["content-type"]
        assert self.headers["x-request-id"] == problem["request_id"]
        assert self.status == problem["status"]
        return str(problem["code"])


class Wire:
    """A connection. It waits for what it reads, and fails where nothing comes."""

    def __init__(self, port: int, *, window_bytes: int | None = None) -> None:
        self._socket = socket.socket()
        self._socket.settimeout(PATIENCE_SECONDS)
        if window_bytes is not None:
            # Before it connects: what the kernel takes for who does not read.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
        self._socket.connect(("127.0.0.1", port))

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._socket.sendall(piece)

    def send_until_refused(self, piece: bytes) -> None:
        with suppress(OSError):
            while True:
                self._socket.sendall(piece)

    def drip(self, drop: bytes) -> None:
        """Now and then, until there is something to read, be it the end."""
        with suppress(ConnectionError):
            while not select([self._socket], [], [], 0.05)[0]:
                self._socket.sendall(drop)

    def rest(self) -> bytes:
        """All that comes until the other side hangs up, in whatever way."""
        pieces = []
        with suppress(ConnectionResetError):
            while piece := self._socket.recv(65_536):
                pieces.append(piece)
        return b"".join(pieces)

    def some(self) -> bytes:
        return self._socket.recv(65_536)

    def _more(self) -> bytes:
        """Or the wait for the rest of what was cut off would have no end."""
        piece = self.some()
        assert b"" != piece, "The other side has hung up."
        return piece

    def answer(self) -> Answer:
        """The next one, whole; more may follow it."""
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += self._more()
        head, _, body = raw.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += self._more()
        (answer,) = answers(head + b"\r\n\r\n" + body)
        return answer

    def is_cut_off(self) -> bool:
        """Whether the other side has reset it, without reading what has come."""
        ends = poll()
        ends.register(self._socket, 0)
        return bool(ends.poll(0))

    def reset(self) -> None:
        """Hang up without reading what has come."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()


def answers(raw: bytes) -> list[Answer]:
    found = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers["content-length"])
        found.append(Answer(int(line.split()[1]), headers, raw[:length]))
        raw = raw[length:]
    return found


def exchange(port: int, *pieces: bytes) -> list[Answer]:
    """Send it all, and read until the server hangs up."""
    with Wire(port) as wire:
        wire.send(*pieces)
        return answers(wire.rest())
