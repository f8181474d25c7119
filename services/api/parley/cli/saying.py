"""One message and its reply, on however many connections it takes."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2

_ENDS = ("done", "error")


class Saying:
    """
    Sent with a key, so that sending it again is saying it once; read on behind the last event that
    came.
    """

    def __init__(self, http: httpx2.Client, body: dict[str, Any]) -> None:
        self._http = http
        self._body = body | {"stream": True}
        self._key = uuid4().hex
        self._turn_id: str | None = None
        self._last_event = "0"
        self.has_ended = False

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """
        What has not come yet, up to the end or to where the connection breaks.

        Raises:
            HTTPStatusError: it was refused; the answer has been read.
            HTTPError: the connection broke, or nobody answers.
        """
        with self._open() as response:
            if response.is_error:
                response.read()
                response.raise_for_status()
            for number, event, data in _events(response.iter_lines()):
                self._last_event = number
                self._turn_id = data.get("turn_id", self._turn_id)
                self.has_ended = event in _ENDS
                yield event, data

    def cancel(self) -> None:
        """Have the reply end with what there is; what is behind the last event is still to come."""
        if self._turn_id is not None:
            self._http.post(f"/turns/{self._turn_id}/cancel")

    def _open(self) -> Any:
        if self._turn_id is None:
            headers = {"Idempotency-Key": self._key}
            return self._http.stream("POST", "/me/chat", json=self._body, headers=headers)
        headers = {"Last-Event-ID": self._last_event}
        return self._http.stream("GET", f"/turns/{self._turn_id}/events", headers=headers)


def _events(lines: Iterator[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    number = event = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            number = value
        elif name == "event":
            event = value
        elif name == "data":
            yield number, event, json.loads(value)
