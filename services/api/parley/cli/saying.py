"""A message and its reply, on however many connections it takes."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2

_ENDS = ("done", "error")


class Saying:
    """
    Sent with a key, so that sending it again is saying it once; read on behind the last event that
    came. A turn that runs already is only read, from its start.
    """

    def __init__(
        self,
        http: httpx2.Client,
        path: str = "",
        body: dict[str, Any] | None = None,
        *,
        turn_id: str | None = None,
    ) -> None:
        self._http = http
        self._path = path
        self._body = {"stream": True, **(body or {})}
        self._key = uuid4().hex
        self._last_event = "0"
        self._characters = 0
        self.turn_id = turn_id
        self.has_ended = False

    @property
    def waits(self) -> bool:
        """For another turn of the conversation, rather than being refused."""
        return "if_busy" in self._body

    def wait(self) -> None:
        self._body["if_busy"] = "wait"

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
            for number, event, data in _events(_lines(response.iter_text())):
                self._last_event = number
                self.turn_id = data.get("turn_id", self.turn_id)
                self.has_ended = event in _ENDS
                if event == "delta":
                    self._characters += len(data["text"])
                # Where pieces were lost, the end has them.
                if event == "done" and (rest := data["reply"]["content"][self._characters :]):
                    yield "delta", {"text": rest}
                yield event, data

    def cancel(self) -> bool:
        """
        Have the reply end with what there is; what is behind the last event is still to come.

        Returns whether that was heard: it is not before the turn is known here.
        """
        if self.turn_id is None:
            return False
        return self._http.post(f"/turns/{self.turn_id}/cancel").is_success

    def _open(self) -> Any:
        if self.turn_id is None:
            headers = {"Idempotency-Key": self._key}
            return self._http.stream("POST", self._path, json=self._body, headers=headers)
        headers = {"Last-Event-ID": self._last_event}
        return self._http.stream("GET", f"/turns/{self.turn_id}/events", headers=headers)


def _lines(pieces: Iterator[str]) -> Iterator[str]:
    """By LF alone: what else ends a line may be in a reply's words. Half a line is none."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from lines


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
