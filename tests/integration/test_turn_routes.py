"""A turn's own routes over HTTP."""

import asyncio

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from parley.core.ids import new_id
from parley.core.settings import Settings
from tests.conftest import SECRET
from tests.events import parse
from tests.responders import Scripted


@pytest.fixture
def responder() -> Scripted:
    return Scripted("one ", "two ", "three")


@pytest.fixture
def read(client: AsyncClient, alice: str, bearer):
    async def read(turn_id: str, *, after: int | None = None, **headers: str):
        return await client.get(
            f"/api/v1/turns/{turn_id}/events",
            params={} if after is None else {"after": after},
            headers=bearer(alice) | headers,
        )

    return read


class TestEvents:
    async def test_from_any_event_on_they_are_the_same_to_the_byte(self, say, read):
        whole = (await say(stream=True)).text
        frames = [f"{frame}\n\n" for frame in whole.split("\n\n")[:-1]]
        turn_id = parse(whole)[0].data["turn_id"]

        for after in range(5):
            rest = "".join(frames[after:])
            assert rest == (await read(turn_id, after=after)).text
            assert rest == (await read(turn_id, **{"Last-Event-ID": str(after)})).text

    async def test_the_event_that_a_browser_has_counts_more_than_the_address(self, say, read):
        turn_id = (await say()).json()["turn_id"]
        answer = await read(turn_id, after=1, **{"Last-Event-ID": "4"})

        assert [5] == [event.id for event in parse(answer.text)]

    async def test_behind_the_last_there_is_no_content(self, say, read):
        """With which a browser asks no more."""
        turn_id = (await say()).json()["turn_id"]
        for after in (5, 6, 10**15):
            answer = await read(turn_id, after=after)
            assert (204, "") == (answer.status_code, answer.text)

    @pytest.mark.parametrize("after", ["-1", "x", "1.5", str(10**15 + 1), "\u0663"])
    async def test_what_is_no_number_is_refused(self, read, after: str):
        assert 422 == (await read(str(new_id()), after=after)).status_code

    @pytest.mark.parametrize("last", ["-1", "x", "1" * 16, ""])
    async def test_what_is_no_event_id_is_refused(self, read, last: str):
        assert 422 == (await read(str(new_id()), **{"Last-Event-ID": last})).status_code

    async def test_a_failure_is_the_problem_that_the_turn_has(
        self, say, read, client: AsyncClient, alice: str, bearer, responder: Scripted
    ):
        responder.error = RuntimeError("canary")
        streamed = await say(stream=True)
        turn_id = parse(streamed.text)[0].data["turn_id"]
        again = await read(turn_id)
        turn = (await client.get(f"/api/v1/turns/{turn_id}", headers=bearer(alice))).json()

        assert streamed.text == again.text
        problem = parse(again.text)[-1].data
        assert f"/api/v1/turns/{turn_id}" == problem.pop("instance")
        assert problem == turn["problem"]
        assert streamed.headers["X-Request-ID"] == problem["request_id"]

    async def test_a_turn_that_is_not_there_is_404(self, read):
        refused = await read(str(new_id()))

        assert (404, "turn-not-found") == (refused.status_code, refused.json()["code"])

    async def test_the_answer_is_kept_by_nobody_and_held_back_by_no_proxy(self, say, read):
        turn_id = (await say()).json()["turn_id"]
        headers = (await read(turn_id)).headers

        assert ("no-store", "no") == (headers["Cache-Control"], headers["X-Accel-Buffering"])


class TestRetention:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(auth_secret=SECRET, stream_retention_seconds=0)

    async def test_long_past_they_are_gone_and_the_turn_says_all(
        self, say, read, client: AsyncClient, app: FastAPI, alice: str, bearer
    ):
        said = (await say()).json()
        while app.state.runner.is_busy:
            await asyncio.sleep(0)
        refused = await read(said["turn_id"])
        turn = (await client.get(f"/api/v1/turns/{said['turn_id']}", headers=bearer(alice))).json()

        assert (410, "events-gone", said["turn_id"]) == (
            refused.status_code,
            refused.json()["code"],
            refused.json()["turn_id"],
        )
        assert said["reply"] == turn["reply"]


class TestModel:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(auth_secret=SECRET, model="large", models="small,large")

    async def test_one_that_is_offered_may_be_asked_for(self, say):
        replies = [await say(), await say(model="small"), await say(model=None)]

        assert ["large", "small", "large"] == [r.json()["reply"]["model"] for r in replies]

    @pytest.mark.parametrize("model", ["other", "LARGE", "small ", "x" * 200])
    async def test_no_other(self, say, model: str):
        refused = await say(model=model)

        assert (422, "model-not-offered") == (refused.status_code, refused.json()["code"])
        assert "large, small" in refused.json()["detail"]

    @pytest.mark.parametrize("model", ["", "x" * 201, 7, ["small"], "a\x00"])
    async def test_what_is_no_name_is_refused(self, say, model):
        assert "invalid-request" == (await say(model=model)).json()["code"]
