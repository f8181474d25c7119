"""What a client may meet in the place of Parley: a proxy that has lost it, a stream that is cut."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Any, Self

Whole = tuple[int, bytes, Mapping[str, str]]


class Cut:
    """In the place of an event: the connection ends here."""


Answer = Whole | list[Any]


def problem(code: str, **members: str) -> bytes:
    return json.dumps(
        {"title": "The title", "detail": "The detail.", "code": code, **members}
    ).encode()


class Front:
    """Lets everybody log in, and answers what is said, and what is read on, in the order given."""

    def __init__(
        self,
        *,
        login: Answer = (
            200,
            b'{"access_token": "a", "refresh_token": "r"}',
            MappingProxyType({}),
        ),
        chat: Sequence[Answer] = (),
        events: Sequence[Answer] = (),
    ) -> None:
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self._answers: dict[str, Iterator[Answer]] = {
            "/me/chat": iter(chat),
            "/turns/t1/events": iter(events),
            "/auth/login": iter([login]),
        }
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.removeprefix("/api/v1")
                front.asked.append((path, dict(self.headers)))
                answer = next(front._answers.get(path, iter([])), (404, b"", {}))
                if isinstance(answer, tuple):
                    _send_whole(self, answer)
                else:
                    _send_events(self, answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _send_whole(handler: BaseHTTPRequestHandler, answer: Whole) -> None:
    status, body, headers = answer
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def _send_events(handler: BaseHTTPRequestHandler, events: list[Any]) -> None:
    """Its length is more than there is, if it is cut."""
    frames = [
        f"id: {number}\nevent: {event[0]}\ndata: {json.dumps(event[1], ensure_ascii=False)}\n\n"
        for number, event in enumerate(events, start=1)
        if event is not Cut
    ]
    body = "".join(frames).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) + events.count(Cut)))
    handler.end_headers()
    handler.wfile.write(body)
