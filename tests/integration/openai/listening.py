"""Asking the responder, and what it says until it ends or fails."""

import json

import pytest

from parley.core.errors import AppError
from parley.services.responders.base import Fault, PromptMessage, Receipt
from parley.services.responders.openai import OpenAIResponder

PROMPT = [PromptMessage("system", "Be kind."), PromptMessage("user", "Hi")]
CANARY = "canary-4711"
TOLD = json.dumps({"error": {"message": CANARY, "type": CANARY, "code": CANARY}}).encode()


async def listen(responder: OpenAIResponder) -> list[str | Receipt]:
    return [said async for said in responder.stream(PROMPT, "stub-1")]


async def text_of(responder: OpenAIResponder) -> str:
    return "".join(said for said in await listen(responder) if isinstance(said, str))


async def fault(responder: OpenAIResponder) -> tuple[str, AppError]:
    """What was said before, and the error."""
    pieces: list[str] = []
    with pytest.raises(Fault) as caught:
        async for said in responder.stream(PROMPT, "stub-1"):
            assert isinstance(said, str)
            pieces.append(said)
    assert CANARY not in f"{caught.value} {caught.value.error.members}"
    return "".join(pieces), caught.value.error
