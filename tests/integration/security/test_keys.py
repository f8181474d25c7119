"""API keys over HTTP; row 16 of the design's security.md: a second credential, the same checks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx import AsyncClient, Response

from parley.core.ids import new_id
from parley.core.security.opaque import digest, new_key
from parley.core.security.tokens import Principal
from parley.crud.ports import Store
from parley.schemas.keys import NewKey
from parley.services.authentication import Authentication
from parley.services.keys import KEYS_MAX
from parley.services.operators import OperatorService
from tests.factories import new_eraser
from tests.integration.security.conftest import PASSWORD, bearing


@pytest.fixture
def make_key(post, ann: dict[str, Any]):
    async def make(name: str = "import", **fields: Any) -> Response:
        return await post("keys", token=ann["access_token"], name=name, **fields)

    return make


class TestCreate:
    async def test_it_is_shown_once_and_kept_as_a_hash(
        self, make_key, ann, client: AsyncClient, store: Store
    ):
        response = await make_key()

        made = response.json()
        assert 201 == response.status_code
        assert made["key"].startswith(made["prefix"])
        assert len(made["key"]) > len(made["prefix"]) + 30
        listed = await client.get("/api/v1/auth/keys", headers=bearing(ann["access_token"]))
        assert [{k: v for k, v in made.items() if k != "key"}] == listed.json()["items"]
        assert made["key"] not in listed.text

    async def test_it_speaks_for_its_user(self, make_key, ann, client: AsyncClient):
        key = (await make_key()).json()["key"]

        me = await client.get("/api/v1/auth/me", headers=bearing(key))
        assert ann["user"]["id"] == me.json()["id"]
        chat = await client.post(
            "/api/v1/me/chat", json={"message": "hello"}, headers=bearing(key)
        )
        assert 200 == chat.status_code
        listed = await client.get("/api/v1/auth/keys", headers=bearing(ann["access_token"]))
        assert listed.json()["items"][0]["last_used_at"]

    async def test_it_is_looked_up_once_a_request(
        self, make_key, status, monkeypatch: pytest.MonkeyPatch
    ):
        """Before the body is read, and not again when the route wants to know."""
        key, asked = (await make_key()).json()["key"], []
        of_bearer = Authentication.of_bearer

        async def counted(self: Authentication, token: str) -> Principal:
            asked.append(token)
            return await of_bearer(self, token)

        monkeypatch.setattr(Authentication, "of_bearer", counted)

        assert 200 == await status(key)
        assert [key] == asked

    @pytest.fixture
    def used_at(self, make_key, ann, client: AsyncClient, status):
        """When a key was used last, as it is listed after each of two uses."""

        async def use_twice() -> list[str]:
            key, seen = (await make_key()).json()["key"], []
            for _ in range(2):
                assert 200 == await status(key)
                token = ann["access_token"]
                listed = await client.get("/api/v1/auth/keys", headers=bearing(token))
                seen.append(listed.json()["items"][0]["last_used_at"])
            return seen

        return use_twice

    async def test_its_use_is_not_written_down_each_time(self, used_at):
        first, second = await used_at()

        assert first
        assert first == second

    async def test_but_again_after_a_while(self, used_at, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("parley.services.authentication.KEY_USE_SECONDS", 0)
        first, second = await used_at()

        assert first < second

    @pytest.mark.parametrize(
        "fields",
        [
            {"name": ""},
            {"name": "x" * 101},
            {"name": "a\0b"},
            {"name": "a\nb"},
            {"name": "a\u202eb"},
            {"name": " "},
            {"name": "x", "expires_at": "2020-01-01T00:00:00Z"},
            {"name": "x", "expires_at": "2035-01-01T00:00:00"},
            {"name": "x", "expires_at": "9999-12-31T23:59:59-12:00"},
            {"name": "x", "expires_at": "0001-01-01T00:00:00+12:00"},
            {"name": "x", "expires_at": 10**20},
            {"name": "x", "expires_at": "soon"},
            {"name": "x", "key": "parley_key_mine"},
            {"name": "x", "user_id": "bob"},
            {"name": "x", "hash": "x"},
        ],
        ids=str,
    )
    async def test_what_is_not_asked_for_is_422(self, make_key, fields: dict[str, Any]):
        assert 422 == (await make_key(**fields)).status_code

    async def test_there_are_not_more_than_a_hundred(
        self, make_key, monkeypatch: pytest.MonkeyPatch
    ):
        assert 100 == KEYS_MAX
        monkeypatch.setattr("parley.services.keys.KEYS_MAX", 2)
        answers = [await make_key() for _ in range(3)]

        assert [201, 201, 409] == [answer.status_code for answer in answers]
        assert "too-many-keys" == answers[-1].json()["code"]

    @pytest.mark.parametrize(
        "name",
        [
            "nightly import",
            "\u0646\u0645\u06cc\u200c\u062f\u0627\u0646\u0645",
            "\U0001f468\u200d\U0001f469",
        ],
    )
    async def test_a_name_is_of_any_language(self, make_key, name: str):
        assert name == (await make_key(name)).json()["name"]


class TestList:
    async def test_page_by_page(self, make_key, ann, client: AsyncClient):
        made = [(await make_key(str(n))).json()["id"] for n in range(3)]
        headers, path = bearing(ann["access_token"]), "/api/v1/auth/keys?limit=2"
        first = (await client.get(path, headers=headers)).json()
        second = (
            await client.get(f"{path}&cursor={first['next_cursor']}", headers=headers)
        ).json()

        assert made[::-1] == [key["id"] for key in first["items"] + second["items"]]
        assert None is second["next_cursor"]


class TestEnd:
    async def test_deleted_it_is_refused_at_once(self, make_key, ann, client: AsyncClient, status):
        made = (await make_key()).json()
        assert 200 == await status(made["key"])
        headers = bearing(ann["access_token"])

        response = await client.delete(f"/api/v1/auth/keys/{made['id']}", headers=headers)

        assert {"id": made["id"], "deleted": True} == response.json()
        assert 401 == await status(made["key"])
        again = await client.delete(f"/api/v1/auth/keys/{made['id']}", headers=headers)
        assert (404, "key-not-found") == (again.status_code, again.json()["code"])

    @pytest.mark.parametrize(("seconds", "answer"), [(3600, 200), (-1, 401)])
    async def test_expired_it_is_refused(self, status, store: Store, ann, seconds, answer):
        key = new_key()
        expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
        async with store.begin(ann["user"]["id"]) as tx:
            await tx.keys.create(NewKey(new_id(), digest(key), "prefix", "import", expires_at))

        assert answer == await status(key)

    async def test_of_a_disabled_account_it_is_refused(self, make_key, status, store: Store):
        made = (await make_key()).json()
        await OperatorService(store, None, new_eraser()).disable("ann@example.com")

        assert 401 == await status(made["key"])


class TestGuess:
    async def test_what_is_no_key_is_401(self, make_key, status):
        key = (await make_key()).json()["key"]
        guesses = (key[:-1], key + "x", key.upper(), "parley_key_", key[11:])

        assert [401] * 5 == [await status(guess) for guess in guesses]


class TestScope:
    """A key that leaked must not outlive its being deleted, nor take the account from its owner."""

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "keys", {"name": "another"}),
            ("GET", "keys", None),
            ("DELETE", "keys/0193497d-8a7d-7c0b-b4f6-d1f0a4a7ce55", None),
            ("POST", "password", {"current": PASSWORD, "new": "another horse, another staple"}),
            ("DELETE", "me", None),
        ],
    )
    async def test_the_account_is_not_for_it(
        self, make_key, client: AsyncClient, status, ann, method: str, path: str, body
    ):
        key = (await make_key()).json()["key"]
        response = await client.request(
            method, f"/api/v1/auth/{path}", json=body, headers=bearing(key)
        )

        assert (403, "session-required") == (response.status_code, response.json()["code"])
        assert [200, 200] == [await status(token) for token in (key, ann["access_token"])]

    @pytest.mark.parametrize("header", ["X-API-Key", "X-Auth-Token", "Api-Key", "Cookie"])
    async def test_row_16_no_other_header_carries_one(
        self, make_key, client: AsyncClient, header: str
    ):
        key = (await make_key()).json()["key"]
        response = await client.get("/api/v1/conversations", headers={header: key})

        assert 401 == response.status_code

    async def test_row_26_the_path_is_checked_for_it_too(self, make_key, client, bob: str):
        key = (await make_key()).json()["key"]
        response = await client.post(
            f"/api/v1/{bob}/chat", json={"message": "hello"}, headers=bearing(key)
        )

        assert 403 == response.status_code
