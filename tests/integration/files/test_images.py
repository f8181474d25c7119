"""Images that a process keeps in memory while the model looks at them."""

import asyncio

import pytest
from httpx import AsyncClient, Response

from parley.services.files import attachments
from tests.integration.files.conftest import Upload
from tests.responders import Gated

IMAGE = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


@pytest.fixture
def limits() -> dict[str, object]:
    return {"model_accepts_images": True}


@pytest.fixture
def responder() -> Gated:
    return Gated()


async def test_one_users_take_none_of_anothers_room(
    client: AsyncClient,
    alice: str,
    bob: str,
    bearer,
    upload: Upload,
    responder: Gated,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(attachments, "IMAGES_BYTES_PER_USER", len(IMAGE))

    async def ask(user_id: str) -> Response:
        file = (await upload(IMAGE, "a.png", "image/png", user_id)).json()
        body = {"message": "look", "attachments": [file["id"]]}
        return await client.post("/api/v1/me/chat", json=body, headers=bearer(user_id))

    hers = asyncio.create_task(ask(alice))
    await responder.asked.wait()
    refused = await ask(alice)
    responder.asked.clear()
    his = asyncio.create_task(ask(bob))
    await asyncio.wait(
        [his, asyncio.create_task(responder.asked.wait())], return_when=asyncio.FIRST_COMPLETED
    )
    responder.gate.set()

    assert (503, "overloaded") == (refused.status_code, refused.json()["code"])
    assert [200, 200] == [(await answer).status_code for answer in (hers, his)]
