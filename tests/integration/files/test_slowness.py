"""Uploads that take their time; by a clock of the test's own."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from httpx import AsyncClient, Response

from parley.crud.ports import Blobs
from parley.main import SLOWEST_UPLOAD_BYTES_PER_SECOND
from tests.stores import kept

SECONDS = 1.0
PIECES = 5
HEAD = b"--x\r\nContent-Disposition: form-data; name=file; filename=a.bin\r\n\r\n"
# For each piece it takes nine tenths of what any body may take altogether.
AFTER = 0.9 * SECONDS


@pytest.fixture
def limits() -> dict[str, object]:
    return {"body_timeout_seconds": SECONDS}


@pytest.fixture
def send(client: AsyncClient, alice: str, bearer, monkeypatch: pytest.MonkeyPatch):
    """One upload in pieces of so many bytes."""

    async def send(piece_bytes: int) -> Response:
        loop = asyncio.get_running_loop()
        now = loop.time()

        async def form() -> AsyncGenerator[bytes]:
            nonlocal now
            yield HEAD
            for _ in range(PIECES):
                now += AFTER
                # What is due by then comes first.
                for _ in range(3):
                    await asyncio.sleep(0)
                yield b"\0" * piece_bytes
            yield b"\r\n--x--\r\n"

        headers = {**bearer(alice), "Content-Type": "multipart/form-data; boundary=x"}
        with monkeypatch.context() as patches:
            patches.setattr(loop, "time", lambda: now)
            return await client.post("/api/v1/files", content=form(), headers=headers)

    return send


async def test_one_that_comes_fast_enough_takes_as_long_as_it_takes(send):
    answer = await send(int(SLOWEST_UPLOAD_BYTES_PER_SECOND * AFTER))

    assert 201 == answer.status_code


async def test_one_that_does_not_ends_and_leaves_nothing(
    send, client: AsyncClient, app_blobs: Blobs, alice: str, bearer
):
    answer = await send(SLOWEST_UPLOAD_BYTES_PER_SECOND // 10)
    listed = await client.get("/api/v1/files", headers=bearer(alice))

    assert (408, "body-timeout") == (answer.status_code, answer.json()["code"])
    assert [] == listed.json()["items"]
    assert set() == await kept(app_blobs)
