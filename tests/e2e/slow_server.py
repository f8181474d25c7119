"""
Parley with a model that says one piece and then waits until a file named `go` is there.

What it says then, it says TEST_TIMES over, once if that is not set.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from parley.cli.environment import prepare
from parley.core.settings import load_settings
from parley.services.responders.base import PromptMessage


class Waiting:
    def __init__(self, times: int) -> None:
        self._times = times
        # One looks for all who wait: there may be a thousand.
        self._looking = asyncio.Lock()

    async def stream(self, prompt: Sequence[PromptMessage], model: str) -> AsyncGenerator[str]:
        yield "first "
        async with self._looking:
            while not Path("go").exists():
                await asyncio.sleep(0.02)
        for _ in range(self._times):
            yield f"re: {prompt[-1].content}"


if __name__ == "__main__":
    prepare()
    from parley.cli import protocol, serve
    from parley.crud.redis import connection
    from parley.main import create_app
    from parley.services import health

    settings = load_settings()
    if "TEST_HEARTBEAT_SECONDS" in os.environ:
        serve.HEARTBEAT_TIMEOUT_SECONDS = int(os.environ["TEST_HEARTBEAT_SECONDS"])
    if "TEST_HEAD_SECONDS" in os.environ:
        protocol.HEAD_SECONDS = float(os.environ["TEST_HEAD_SECONDS"])
    if "TEST_STALL_SECONDS" in os.environ:
        protocol.WRITE_STALL_SECONDS = float(os.environ["TEST_STALL_SECONDS"])
    if "TEST_REDIS_SECONDS" in os.environ:
        connection.TIMEOUT_SECONDS = float(os.environ["TEST_REDIS_SECONDS"])
    if "TEST_PROBE_SECONDS" in os.environ:
        health.PROBE_SECONDS = float(os.environ["TEST_PROBE_SECONDS"])
    times = int(os.environ.get("TEST_TIMES", "1"))
    serve.run(
        lambda settings: create_app(settings, responder=Waiting(times)), settings, "127.0.0.1"
    )
