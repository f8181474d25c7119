from collections.abc import AsyncGenerator

import pytest

from parley.services.responders.openai import OpenAIResponder
from tests.model_server import ModelServer, model_server


@pytest.fixture
async def server() -> AsyncGenerator[ModelServer]:
    async with model_server() as server:
        yield server


@pytest.fixture
async def responder(server: ModelServer) -> AsyncGenerator[OpenAIResponder]:
    responder = OpenAIResponder(base_url=server.url, api_key="sk-secret")
    yield responder
    await responder.close()
