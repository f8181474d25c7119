"""What a conversation shows, held to what every one promises: whole turns, without a gap."""

from collections.abc import Iterator
from typing import Any

import httpx

Shown = list[dict[str, Any]]


def _pages(client: httpx.Client, conversation_id: str) -> Iterator[dict[str, Any]]:
    cursor: dict[str, str] = {}
    while True:
        page = client.get(
            f"/conversations/{conversation_id}/messages",
            params={"order": "asc", "limit": "100", **cursor},
        ).json()
        yield from page["items"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def read_whole(client: httpx.Client, conversation_id: str) -> tuple[Shown, Shown]:
    """The messages and their replies."""
    shown = list(_pages(client, conversation_id))
    asked, replies = shown[::2], shown[1::2]
    assert [*range(1, len(shown) + 1)] == [one["position"] for one in shown]
    assert len(asked) == len(replies)
    assert {"user"} >= {one["role"] for one in asked}
    assert {"assistant"} >= {one["role"] for one in replies}
    return asked, replies
