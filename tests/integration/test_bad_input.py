"""What no client should send: a 4xx problem each, the same on all stores, and never a 500."""

import json
from collections.abc import AsyncGenerator
from io import StringIO

import pytest
from httpx import AsyncClient, Response

from parley.crud.ports import Store
from tests.factories import make_conversation

MEGABYTE = 1024**2
JSON = {"Content-Type": "application/json"}
DEEP = b'{"metadata":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"


def assert_problem(response: Response, status: int) -> None:
    problem = response.json()
    assert status == response.status_code == problem["status"]
    assert "application/problem+json" == response.headers["Content-Type"]
    assert {"type", "title", "detail", "instance", "code", "request_id"} <= set(problem)
    assert response.headers["X-Request-ID"] == problem["request_id"]


class Megabytes:
    """A body that counts how much of it was wanted."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.sent = 0

    async def send(self) -> AsyncGenerator[bytes]:
        for _ in range(self._count):
            self.sent += 1
            yield b" " * MEGABYTE


class TestBody:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b'"text"',
            b"\xff\xfe{}",
            b'{"message": "\xff"}',
            b'{"message": "\\u0000"}',
            b'{"message": "\\ud800"}',
            b'{"message": "\\udc00\\ud800"}',
            b'{"message": ""}',
            b'{"message": 1}',
            b'{"message": null}',
            b'{"message": ["a"]}',
            b'{"message": NaN}',
            b'{"message": "a", "stream": "yes"}',
            b'{"message": "a", "stream": 1}',
            b'{"message": "a", "conversation_id": 1}',
            b'{"message": "a", "conversation_id": "x"}',
            b'{"message": "a", "conversation_id": ' + b"9" * 5000 + b"}",
            b'{"message": "a", "\\u0000": 1}',
            b'{"message": "a", "' + b"k" * 5000 + b'": 1}',
            b"{" + b",".join(b'"k%d":1' % n for n in range(50)) + b"}",
        ],
    )
    async def test_a_message_that_is_none_is_422(
        self, client: AsyncClient, alice: str, bearer, body: bytes
    ):
        response = await client.post("/api/v1/me/chat", content=body, headers=JSON | bearer(alice))

        assert_problem(response, 422)
        assert 20 >= len(response.json()["errors"]) > 0
        assert 10_000 > len(response.content)

    async def test_a_bound_is_told_in_the_users_words(
        self, client: AsyncClient, alice: str, bearer
    ):
        response = await client.post(
            "/api/v1/me/chat", json={"message": "x" * 32_001}, headers=bearer(alice)
        )

        assert [
            {
                "location": ["body", "message"],
                "message": "String should have at most 32000 characters",
                "code": "string-too-long",
            }
        ] == response.json()["errors"]

    @pytest.mark.parametrize(
        "metadata",
        [
            '{"a": NaN}',
            '{"a": Infinity}',
            '{"a": 1e999}',
            '{"a": 9007199254740992}',
            '{"a": ' + "9" * 5000 + "}",
            '{"a": "\\u0000"}',
            '{"\\u0000": 1}',
            '{"a": "\\ud800"}',
            '{"a": ' + "[" * 33 + "]" * 33 + "}",
            '{"a": "' + "x" * 17_000 + '"}',
            "[]",
            "null",
            '"x"',
        ],
    )
    async def test_metadata_that_cannot_be_kept_is_422(
        self, client: AsyncClient, alice: str, bearer, store: Store, metadata: str
    ):
        conversation = await make_conversation(store, alice)
        body = f'{{"metadata": {metadata}}}'.encode()
        path = "/api/v1/conversations"
        for method, where in (("POST", path), ("PATCH", f"{path}/{conversation.id}")):
            response = await client.request(
                method, where, content=body, headers=JSON | bearer(alice)
            )
            assert_problem(response, 422)

    async def test_deep_nesting_is_422(self, client: AsyncClient, alice: str, bearer):
        response = await client.post(
            "/api/v1/conversations", content=DEEP, headers=JSON | bearer(alice)
        )

        assert_problem(response, 422)

    @pytest.mark.parametrize(
        "content_type", [None, "text/plain", "application/x-www-form-urlencoded"]
    )
    async def test_another_type_is_422(
        self, client: AsyncClient, alice: str, bearer, content_type: str | None
    ):
        headers = {"Content-Type": content_type} if content_type else {}
        response = await client.post(
            "/api/v1/me/chat", content=b'{"message": "a"}', headers=headers | bearer(alice)
        )

        assert_problem(response, 422)

    async def test_a_compressed_one_is_415(self, client: AsyncClient, alice: str, bearer):
        headers = JSON | bearer(alice) | {"Content-Encoding": "gzip"}
        response = await client.post("/api/v1/me/chat", content=b"\x1f\x8b", headers=headers)

        assert_problem(response, 415)

    @pytest.mark.parametrize("has_length", [True, False])
    async def test_ten_megabytes_are_413_once_they_are_sent(
        self, client: AsyncClient, alice: str, bearer, *, has_length: bool
    ):
        """Hung up on while it sends, a proxy would answer 502 in its own words."""
        body = Megabytes(10)
        headers = JSON | bearer(alice)
        if has_length:
            headers["Content-Length"] = str(10 * MEGABYTE)
        response = await client.post("/api/v1/me/chat", content=body.send(), headers=headers)

        assert_problem(response, 413)
        assert 10 == body.sent

    async def test_who_sends_without_end_is_not_listened_to_for_ever(
        self, client: AsyncClient, alice: str, bearer
    ):
        body = Megabytes(1000)
        response = await client.post(
            "/api/v1/me/chat", content=body.send(), headers=JSON | bearer(alice)
        )

        assert_problem(response, 413)
        assert body.sent < 20

    async def test_who_asks_before_sending_is_answered_at_once(
        self, client: AsyncClient, alice: str, bearer
    ):
        body = Megabytes(10)
        headers = {"Content-Length": str(10 * MEGABYTE), "Expect": "100-continue"}
        response = await client.post(
            "/api/v1/me/chat", content=body.send(), headers=JSON | bearer(alice) | headers
        )

        assert_problem(response, 413)
        assert 0 == body.sent

    async def test_a_path_that_is_nobodys_lets_a_body_be_sent_too(self, client: AsyncClient):
        body = Megabytes(2)
        response = await client.post("/nowhere", content=body.send(), headers=JSON)

        assert_problem(response, 404)
        assert 2 == body.sent


class TestQueryAndPath:
    @pytest.mark.parametrize("limit", ["0", "-1", "101", "x", "1.5", "9" * 5000, "NaN", ""])
    async def test_a_limit_that_is_none_is_422(
        self, client: AsyncClient, alice: str, bearer, limit: str
    ):
        response = await client.get(
            "/api/v1/conversations", params={"limit": limit}, headers=bearer(alice)
        )

        assert_problem(response, 422)

    @pytest.mark.parametrize("identifier", ["x", "1", "%00", "..", "' OR 1=1", "é" * 100])
    async def test_an_id_that_is_none_is_422_or_404(
        self, client: AsyncClient, alice: str, bearer, identifier: str
    ):
        for path in ("conversations", "turns"):
            response = await client.get(f"/api/v1/{path}/{identifier}", headers=bearer(alice))
            assert_problem(response, 404 if identifier == ".." else 422)

    async def test_an_unknown_order_is_422(self, client: AsyncClient, alice: str, bearer, store):
        conversation = await make_conversation(store, alice)
        response = await client.get(
            f"/api/v1/conversations/{conversation.id}/messages",
            params={"order": "id; DROP TABLE messages"},
            headers=bearer(alice),
        )

        assert_problem(response, 422)


class TestFramework:
    async def test_an_unknown_path_is_404(self, client: AsyncClient):
        response = await client.get("/api/v2/nothing")

        assert_problem(response, 404)
        assert "/api/v2/nothing" == response.json()["instance"]

    async def test_a_slash_too_many_is_404_and_leads_nowhere(self, client: AsyncClient):
        assert_problem(await client.get("/api/v1/conversations/"), 404)

    @pytest.mark.parametrize(
        ("method", "path"),
        [("DELETE", "/health"), ("GET", "/api/v1/me/chat"), ("TRACE", "/api/v1/conversations")],
    )
    async def test_another_method_is_405_and_names_what_there_is(
        self, client: AsyncClient, method: str, path: str
    ):
        response = await client.request(method, path)

        assert_problem(response, 405)
        assert response.headers["Allow"]


class TestRequestId:
    async def test_a_well_formed_one_is_kept(self, client: AsyncClient):
        response = await client.get("/health", headers={"X-Request-ID": "a-Z_0.9"})

        assert "a-Z_0.9" == response.headers["X-Request-ID"]

    @pytest.mark.parametrize("given", ["", "a b", "x" * 10_000, "é", "a\tb", '"'])
    async def test_any_other_is_replaced(self, client: AsyncClient, given: str):
        response = await client.get("/health", headers={b"X-Request-ID": given.encode()})

        assert given != response.headers["X-Request-ID"]
        assert 32 == len(response.headers["X-Request-ID"])


class TestUnexpected:
    async def test_a_bug_is_500_with_a_request_id_and_nothing_of_the_inside(
        self,
        app,
        client: AsyncClient,
        alice: str,
        bearer,
        logged: StringIO,
    ):
        async def broken(*_: object) -> None:
            raise RuntimeError("canary")

        object.__setattr__(app.state.services.conversations, "newest", broken)
        response = await client.get("/api/v1/conversations", headers=bearer(alice))

        assert_problem(response, 500)
        assert "canary" not in response.text
        assert "RuntimeError" not in response.text
        crashed = [
            json.loads(line)
            for line in logged.getvalue().splitlines()
            if "request-crashed" in line
        ]
        assert [response.json()["request_id"]] == [line["request_id"] for line in crashed]
        assert "canary" not in logged.getvalue()


class TestAccessLog:
    async def test_one_line_a_request_says_who_what_and_how_long_and_nothing_that_was_said(
        self, client: AsyncClient, alice: str, bearer, logged: StringIO
    ):
        await client.post(
            f"/api/v1/{alice}/chat?canary=1",
            json={"message": "canary"},
            headers=bearer(alice) | {"X-Request-ID": "rid"},
        )

        (line,) = [
            line
            for line in map(json.loads, logged.getvalue().splitlines())
            if line["logger"] == "parley.access"
        ]
        assert ("POST", "/api/v1/{user_id}/chat", 200, alice, "rid") == tuple(
            line[name] for name in ("method", "route", "status", "user_id", "request_id")
        )
        assert 0 < line["duration_seconds"] < 60
        ours = [line for line in logged.getvalue().splitlines() if '"logger": "httpx"' not in line]
        assert "canary" not in str(ours)
