"""
Turns as server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType

from fastapi import Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from parley.schemas.problem import Problem
from parley.schemas.turns import ChatReply, Delta, TurnStarted
from parley.services.turns.events import Event, Numbered

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_SECONDS = 15.0

_NAMES: dict[type[BaseModel], str] = {
    TurnStarted: "turn",
    Delta: "delta",
    ChatReply: "done",
    Problem: "error",
}


def frame(number: int, event: Event) -> bytes:
    if isinstance(event, Problem):
        # About the turn, and not about who happens to read it.
        event = event.model_copy(update={"instance": f"/api/v1/turns/{event.turn_id}"})
    name, data = _NAMES[type(event)], event.model_dump_json()
    return f"id: {number}\nevent: {name}\ndata: {data}\n\n".encode()


async def frames_of(events: AsyncGenerator[Sequence[Numbered]]) -> AsyncGenerator[bytes]:
    """The events in the form in which they are sent, as many at once as there are."""
    async with aclosing(events):
        async for several in events:
            yield b"".join(frame(number, event) for number, event in several)


class EventStream(Response):
    """
    Sends frames as they come, and a comment now and then: a proxy hangs up on silence.

    A client that leaves ends the reading, never the turn.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        frames: AsyncGenerator[bytes],
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        always = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(headers=always | dict(headers))
        del self.headers["Content-Length"]
        self._frames = frames
        self._has_ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writing = asyncio.create_task(self._write(send))
        leaving = asyncio.create_task(_until_gone(receive))
        tasks = {writing, leaving, asyncio.create_task(self._beat(send))}
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not writing.cancelled():
            await writing

    async def _write(self, send: Send) -> None:
        status, headers = self.status_code, self.raw_headers
        await send({"type": "http.response.start", "status": status, "headers": headers})
        async with aclosing(self._frames) as frames:
            async for piece in frames:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        self._has_ended = True
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _beat(self, send: Send) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if not self._has_ended:
                await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
