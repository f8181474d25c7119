import pytest
from httpx import AsyncClient, Response


@pytest.fixture
def say(client: AsyncClient, alice: str, bearer):
    """Alice sends one message."""

    async def send(message: str = "hello", path: str = "/api/v1/me/chat", **body) -> Response:
        return await client.post(path, json={"message": message, **body}, headers=bearer(alice))

    return send
