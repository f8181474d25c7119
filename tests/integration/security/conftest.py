"""Somebody who registers, logs in and comes back, over HTTP."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from httpx import AsyncClient, Response

PASSWORD = "correct horse battery staple"

Post = Callable[..., Awaitable[Response]]


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def post(client: AsyncClient) -> Post:
    """To `/api/v1/auth/…`; `token` goes into the header, the rest into the body."""

    async def send(action: str, *, token: str | None = None, **body: Any) -> Response:
        headers = bearing(token) if token else {}
        return await client.post(f"/api/v1/auth/{action}", json=body, headers=headers)

    return send


@pytest.fixture
async def ann(post: Post) -> dict[str, Any]:
    """Ann's session, as registering answered with it."""
    response = await post("register", email="ann@example.com", password=PASSWORD)
    assert 201 == response.status_code
    return dict(response.json())


@pytest.fixture
def status(client: AsyncClient) -> Callable[[str], Awaitable[int]]:
    """What a request with this token is answered."""

    async def ask(token: str) -> int:
        return (await client.get("/api/v1/conversations", headers=bearing(token))).status_code

    return ask
