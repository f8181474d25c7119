"""Server-sent events, as a client reads them."""

import json
from typing import Any, NamedTuple


class ServerEvent(NamedTuple):
    id: int
    name: str
    data: dict[str, Any]


def parse(text: str) -> list[ServerEvent]:
    """Strict about the frame: id, event, data, an empty line; comments are passed over."""
    events = []
    for block in text.split("\n\n")[:-1]:
        if block.startswith(":"):
            continue
        number, name, data = block.split("\n")
        events.append(
            ServerEvent(
                int(number.removeprefix("id: ")),
                name.removeprefix("event: "),
                json.loads(data.removeprefix("data: ")),
            )
        )
    return events
