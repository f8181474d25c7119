"""Models that a test can steer, and what is logged of those that fail."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from io import StringIO
from typing import Any

from parley.core.errors import AppError
from parley.services.responders.base import Fault, PromptMessage, Receipt


class Scripted:
    """Says its pieces, then raises its error, if it has one; remembers what it was asked."""

    def __init__(self, *pieces: str | Receipt, error: Exception | None = None) -> None:
        self.prompts: list[list[PromptMessage]] = []
        self.pieces = pieces
        self.error = error

    async def stream(
        self, prompt: Sequence[PromptMessage], model: str
    ) -> AsyncGenerator[str | Receipt]:
        self.prompts.append([*prompt])
        for piece in self.pieces:
            yield piece
        if isinstance(self.error, AppError):
            reason = "it was told to"
            raise Fault(reason, self.error)
        if self.error is not None:
            raise self.error


class Gated:
    """Says a first piece, if any, then waits for `gate`; `asked` tells that somebody asked."""

    def __init__(self, first: str = "") -> None:
        self.first = first
        self.prompts: list[Sequence[PromptMessage]] = []
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.was_closed = False

    async def stream(
        self, prompt: Sequence[PromptMessage], model: str
    ) -> AsyncGenerator[str | Receipt]:
        self.prompts.append(prompt)
        try:
            if self.first:
                yield self.first
            self.asked.set()
            await self.gate.wait()
            yield f"re: {prompt[-1].content}"
        finally:
            self.was_closed = True


def failures_in(logged: StringIO) -> list[dict[str, Any]]:
    lines = map(json.loads, logged.getvalue().splitlines())
    return [line for line in lines if line["event"] == "model-failed"]
