"""How an S3 server is asked; by a server of our own, which says what a test wants."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack

import pytest

from parley.core.errors import FileStoreUnavailable
from parley.core.ids import new_id
from parley.core.settings import Settings
from parley.crud.objects import s3
from parley.crud.ports import Blobs
from parley.wiring import open_blobs
from tests.model_server import ModelServer, Then, answer, model_server

PATIENCE_SECONDS = 10
UNAVAILABLE = answer("503 Slow Down")


@pytest.fixture
async def server() -> AsyncGenerator[ModelServer]:
    async with model_server() as server:
        server.script = answer("404 Not Found")
        yield server


@pytest.fixture
async def blobs_in(server: ModelServer) -> AsyncGenerator[Callable[..., Blobs]]:
    async with AsyncExitStack() as closing:
        given = {
            "files_url": "s3://bucket/some/where",
            "s3_endpoint": f"http://127.0.0.1:{server.port}",
            "s3_access_key_id": "parley",
            "s3_secret_access_key": "of the tests",
        }
        yield lambda **settings: open_blobs(Settings(**given | settings), closing)


@pytest.fixture
def asks_for_any_host(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which host it wants, a client says to its proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def blobs(blobs_in: Callable[..., Blobs]) -> Blobs:
    return blobs_in()


async def test_the_bucket_is_in_the_path(server: ModelServer, blobs: Blobs):
    file_id = new_id()

    with pytest.raises(FileStoreUnavailable):
        await blobs.size(file_id)
    assert f"/bucket/some/where/{file_id}" == server.asked[0].path


@pytest.mark.usefixtures("asks_for_any_host")
@pytest.mark.parametrize(
    ("s3_path_style", "host"),
    [
        ("true", "s3.eu-central-1.amazonaws.com"),
        ("false", "bucket.s3.eu-central-1.amazonaws.com"),
    ],
)
async def test_of_aws_it_is_in_the_path_or_in_the_hosts_name(
    server: ModelServer,
    blobs_in: Callable[..., Blobs],
    s3_path_style: str,
    host: str,
):
    blobs = blobs_in(s3_endpoint=None, s3_region="eu-central-1", s3_path_style=s3_path_style)

    with pytest.raises(FileStoreUnavailable):
        await blobs.size(new_id())
    assert {f"{host}:443"} == {asked.path for asked in server.asked}


@pytest.mark.usefixtures("asks_for_any_host")
@pytest.mark.parametrize(
    ("s3_path_style", "url"),
    [
        ("true", "http://s3.test:9000/base/bucket/some/where"),
        ("false", "http://bucket.s3.test:9000/base/some/where"),
    ],
)
async def test_so_it_is_of_others(
    server: ModelServer,
    blobs_in: Callable[..., Blobs],
    s3_path_style: str,
    url: str,
):
    blobs = blobs_in(s3_endpoint="http://s3.test:9000/base", s3_path_style=s3_path_style)
    file_id = new_id()

    with pytest.raises(FileStoreUnavailable):
        await blobs.size(file_id)
    assert f"{url}/{file_id}" == server.asked[0].path


async def test_one_that_fails_is_asked_so_often_and_no_more(
    server: ModelServer, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(s3, "RETRY_SECONDS", 60)  # it may be slow to say that it fails
    server.scripts = [UNAVAILABLE] * (1 + s3.RETRIES)

    with pytest.raises(FileStoreUnavailable):
        await blobs.size(new_id())
    assert 1 + s3.RETRIES == len(server.asked)


async def test_nor_for_longer_than_it_may_be(
    server: ModelServer, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(s3, "RETRY_SECONDS", 0)
    server.scripts = [UNAVAILABLE]

    with pytest.raises(FileStoreUnavailable):
        await blobs.size(new_id())
    assert 1 == len(server.asked)


async def test_one_that_says_nothing_is_not_waited_for(
    server: ModelServer, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(s3, "REQUEST_SECONDS", 0.1)
    server.script = [Then.STALL]

    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(FileStoreUnavailable):
            await blobs.size(new_id())
