"""A file's bytes over HTTP, whole and in parts; and what an upload and a download count as."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from tests.integration.files.conftest import Upload

CONTENT = b"0123456789"


@pytest.fixture
async def path(upload: Upload) -> str:
    return f"/api/v1/files/{(await upload(CONTENT)).json()['id']}/content"


@pytest.fixture
def get(client: AsyncClient, alice: str, bearer, path: str):
    async def send(**headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.get(path, headers=bearer(alice) | named)

    return send


class TestParts:
    async def test_one_is_said_to_be_one(self, get):
        answer = await get(Range="bytes=2-5")

        assert (206, b"2345") == (answer.status_code, answer.content)
        assert "bytes 2-5/10" == answer.headers["Content-Range"]
        assert "4" == answer.headers["Content-Length"]

    async def test_the_whole_is_said_to_be_whole(self, get):
        answer = await get()

        assert (200, CONTENT) == (answer.status_code, answer.content)
        assert "10" == answer.headers["Content-Length"]
        assert "bytes" == answer.headers["Accept-Ranges"]
        assert "Content-Range" not in answer.headers

    async def test_one_behind_the_end_is_told_where_that_is(self, get):
        answer = await get(Range="bytes=10-")

        assert (416, "range-not-satisfiable") == (answer.status_code, answer.json()["code"])
        assert "bytes */10" == answer.headers["Content-Range"]


class TestConditions:
    async def test_who_has_it_gets_nothing_more(self, get):
        tag = (await get()).headers["ETag"]
        answer = await get(If_None_Match=tag, Range="bytes=2-5")

        assert (304, b"") == (answer.status_code, answer.content)
        assert tag == answer.headers["ETag"]

    async def test_who_means_another_is_told_so(self, get):
        answer = await get(If_Match='"another"')

        assert (412, "precondition-failed") == (answer.status_code, answer.json()["code"])

    async def test_a_part_of_another_is_answered_with_the_whole(self, get):
        answer = await get(If_Range='"another"', Range="bytes=2-5")

        assert (200, CONTENT) == (answer.status_code, answer.content)

    @pytest.mark.parametrize("name", ["If-Modified-Since", "If-Unmodified-Since", "If-Range"])
    @pytest.mark.parametrize(
        "date",
        [
            "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
            "Mon, 01 Jan 2147483648 00:00:00 GMT",
            "Mon, 01 Jan 2026 00:00:00 +9999999999999999",
            "yesterday",
        ],
    )
    async def test_a_date_that_is_none_counts_for_nothing(self, get, name: str, date: str):
        answer = await get(**{name: date, "Range": "bytes=0-0"})

        assert answer.status_code in {200, 206}


class TestLimits:
    @pytest.fixture
    def backend(self) -> str:
        return "memory"

    @pytest.fixture
    def limits(self) -> dict[str, object]:
        return {"streams_max_per_user": 1, "rate_limit_chat": "3/minute"}

    async def test_an_upload_counts_as_a_message(self, upload: Upload, say):
        answers = [await upload(), await say(), await upload(), await upload(), await say()]

        assert [201, 200, 201, 429, 429] == [answer.status_code for answer in answers]
        assert '"chat";r=0' in answers[-1].headers["RateLimit"]

    async def test_as_many_are_on_their_way_as_a_user_may_have_streams(
        self, client: AsyncClient, app: FastAPI, alice: str, bob: str, bearer, upload: Upload, path
    ):
        begun, gate = asyncio.Event(), asyncio.Event()

        async def form() -> AsyncGenerator[bytes]:
            yield b"--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"
            begun.set()
            await gate.wait()
            yield b"\r\n--x--\r\n"

        headers = {**bearer(alice), "Content-Type": "multipart/form-data; boundary=x"}
        first = asyncio.create_task(client.post("/api/v1/files", content=form(), headers=headers))
        await begun.wait()
        refused = [await upload(), await client.get(path, headers=bearer(alice))]
        others = await upload(user_id=bob)
        gate.set()

        assert [(429, "too-many-streams")] * 2 == [
            (answer.status_code, answer.json()["code"]) for answer in refused
        ]
        assert 201 == others.status_code
        assert 201 == (await first).status_code
        assert 200 == (await client.get(path, headers=bearer(alice))).status_code
