"""Every route that takes an id or a user, asked by the wrong one or by nobody."""

import re
from uuid import UUID

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from parley.core.ids import new_id
from parley.crud.ports import Store
from tests.factories import make_conversation, record

BODIES: dict[str, object] = {
    "POST": {"message": "hello"},
    "PUT": {"title": "mine"},
    "PATCH": {"title": "mine"},
}
# The routes that need no token, and no other.
OPEN = {
    "GET /health",
    "GET /health/ready",
    "GET /health/db",
    "GET /api/health",
    "POST /api/v1/auth/register",
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/refresh",
    "POST /api/v1/auth/logout",
}


def operations(app: FastAPI) -> list[tuple[str, str]]:
    return [
        (method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item
    ]


def comparable(response: Response, *ids: UUID) -> str:
    body = re.sub(r'"request_id":"[^"]*"', "", response.text)
    for known in ids:
        body = body.replace(str(known), "ID")
    return body


class TestAnothersId:
    async def test_it_is_answered_as_a_missing_one_by_every_route(
        self, app: FastAPI, client: AsyncClient, store: Store, alice: str, bob: str, bearer
    ):
        conversation = await make_conversation(store, bob)
        reply = await record(store, bob, conversation.id)
        theirs = {"conversation_id": conversation.id, "turn_id": reply.turn_id}
        tried = 0
        for method, path in operations(app):
            for name, known in theirs.items():
                if f"{{{name}}}" not in path:
                    continue
                tried += 1
                missing = new_id()
                answers = [
                    await client.request(
                        method,
                        path.replace(f"{{{name}}}", str(which)),
                        json=BODIES.get(method),
                        headers=bearer(alice),
                    )
                    for which in (known, missing)
                ]
                assert [404, 404] == [answer.status_code for answer in answers], (method, path)
                assert comparable(answers[0], known) == comparable(answers[1], missing)
        assert 6 == tried

        async with store.begin(bob) as tx:
            assert 2 == len(await tx.messages.history(conversation.id, 10))

    async def test_a_message_to_it_is_404_and_leaves_no_trace(
        self, client: AsyncClient, store: Store, alice: str, bob: str, bearer
    ):
        conversation = await make_conversation(store, bob)
        response = await client.post(
            "/api/v1/me/chat",
            json={"message": "hello", "conversation_id": str(conversation.id)},
            headers=bearer(alice),
        )

        assert 404 == response.status_code
        for user_id in (alice, bob):
            async with store.begin(user_id) as tx:
                assert None is await tx.turns.running(conversation.id)
                assert [] == await tx.messages.history(conversation.id, 10)


class TestAnothersPath:
    @pytest.mark.parametrize("prefix", ["/api/v1", "/api"])
    async def test_it_is_403(self, client: AsyncClient, alice: str, bob: str, bearer, prefix: str):
        response = await client.post(
            f"{prefix}/{bob}/chat", json={"message": "hello"}, headers=bearer(alice)
        )

        assert (403, "not-your-resource") == (response.status_code, response.json()["code"])

    @pytest.mark.parametrize(
        ("user_id", "status"),
        [("a" * 65, 422), ("a b", 422), ("%00", 422), ("é", 422), ("a%2Fb", 404), ("a/b", 404)],
    )
    async def test_what_is_no_user_id_is_refused(
        self, client: AsyncClient, alice: str, bearer, user_id: str, status: int
    ):
        response = await client.post(
            f"/api/v1/{user_id}/chat", json={"message": "hello"}, headers=bearer(alice)
        )

        assert status == response.status_code


class TestNobody:
    async def test_every_other_route_wants_a_token(self, app: FastAPI, client: AsyncClient):
        for method, path in operations(app):
            if f"{method} {path}" in OPEN:
                continue
            for name in re.findall(r"{(\w+)}", path):
                path = path.replace(f"{{{name}}}", str(new_id()))  # noqa: PLW2901
            response = await client.request(method, path, json=BODIES.get(method))
            assert 401 == response.status_code, (method, path)
            assert "Bearer" == response.headers["WWW-Authenticate"]

    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer x.y.z"},
            {"Authorization": "Basic YTpi"},
            {"Authorization": "Bearer é".encode()},
            {"X-API-Key": "x"},
            {"Cookie": "access_token=x"},
        ],
    )
    async def test_what_is_no_token_is_401(self, client: AsyncClient, headers):
        response = await client.get("/api/v1/conversations", headers=headers)

        assert 401 == response.status_code

    async def test_two_tokens_are_none(self, client: AsyncClient, alice: str, bob: str, bearer):
        headers = [*bearer(alice).items(), *bearer(bob).items()]
        response = await client.get("/api/v1/conversations", headers=headers)

        assert 401 == response.status_code

    async def test_a_token_in_the_query_is_ignored(self, client: AsyncClient, alice: str, bearer):
        token = bearer(alice)["Authorization"].removeprefix("Bearer ")
        response = await client.get(f"/api/v1/conversations?access_token={token}")

        assert 401 == response.status_code
