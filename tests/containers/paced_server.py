"""Parley with a model that pauses before each word of a message that asks for it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from parley.cli.environment import prepare
from parley.core.settings import load_settings
from parley.services.responders.base import PromptMessage, Receipt

PAUSE_SECONDS = {"slowly": 0.2, "steadily": 0.02}


class Paced:
    async def stream(
        self, prompt: Sequence[PromptMessage], model: str
    ) -> AsyncGenerator[str | Receipt]:
        yield Receipt("paced")
        words = prompt[-1].content.split()
        pause_seconds = next((PAUSE_SECONDS[word] for word in words if word in PAUSE_SECONDS), 0)
        for word in words:
            await asyncio.sleep(pause_seconds)
            yield f"{word} "


if __name__ == "__main__":
    prepare()
    from parley.cli.serve import run
    from parley.main import create_app

    run(
        lambda settings: create_app(settings, responder=Paced()),
        load_settings(),
        "0.0.0.0",  # noqa: S104 - in a container
    )
