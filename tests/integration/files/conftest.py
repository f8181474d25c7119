from collections.abc import Awaitable, Callable

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from parley.core.settings import Settings
from parley.crud.ports import Blobs
from tests.conftest import SECRET

KINDS = {"memory": "memory", "sqlite": "file", "postgres": "s3"}

Upload = Callable[..., Awaitable[Response]]


@pytest.fixture(params=KINDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each store with a file store of its own, so that each test runs on all three of either."""
    return request.param


@pytest.fixture
def file_settings(
    backend: str, file_settings_of: Callable[[str], dict[str, str]]
) -> dict[str, str]:
    return file_settings_of(KINDS[backend])


@pytest.fixture
def limits() -> dict[str, object]:
    """What a test sets otherwise; override it."""
    return {}


@pytest.fixture
def settings(file_settings: dict[str, str], limits: dict[str, object]) -> Settings:
    return Settings(auth_secret=SECRET, **file_settings, **limits)


@pytest.fixture
def app_blobs(app: FastAPI) -> Blobs:
    """What the application keeps files in."""
    return app.state.services.files._blobs  # noqa: SLF001


@pytest.fixture
def upload(client: AsyncClient, alice: str, bearer) -> Upload:
    """Alice uploads one file."""

    async def send(
        content: object = b"hello",
        filename: str = "a.txt",
        content_type: str = "text/plain",
        user_id: str = alice,
    ) -> Response:
        files = {"file": (filename, content, content_type)}
        return await client.post("/api/v1/files", files=files, headers=bearer(user_id))

    return send
