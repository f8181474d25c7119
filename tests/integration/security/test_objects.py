"""Rows 26 to 28, 30, 33 to 37: every route that takes an id, a cursor or a body, from the OpenAPI."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from parley.core.ids import new_id
from parley.core.settings import Settings
from parley.crud.ports import Store
from parley.schemas.conversations import Conversation
from parley.schemas.keys import NewKey
from tests.conftest import SECRET
from tests.events import parse
from tests.factories import make_conversation, record, session_of, upload_of
from tests.integration.security.operations import (
    METHODS,
    OPERATIONS,
    SPEC,
    Operation,
    naming,
    properties,
)

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
# What is asked for with something to prove who asks, which the examples do not.
PROVING = {"log_in": 401, "refresh_session": 401, "change_password": 403}
# Every id that any route takes, and which test here tries it with what is another's.
TRIED = {
    ("path", "conversation_id"),
    ("path", "turn_id"),
    ("path", "key_id"),
    ("path", "file_id"),
    ("path", "user_id"),
    ("query", "cursor"),
    ("body", "conversation_id"),
    ("body", "attachments"),
    # Numbers, of the turn in the path.
    ("query", "after"),
    ("header", "Last-Event-ID"),
    # A secret, and no name: whoever has it is whom it is of (rows 22 to 24, test_sessions).
    ("body", "refresh_token"),
}
# Of no password that is ever sent here, and quick to be found wrong.
PASSWORD_HASH = (
    "$argon2id$v=19$m=8,t=1,p=1$78Pkrl8GICVT1dCPwgJ9ag$jiBvY4Cd0IFSOoTDdMp7L5TsRxkrtleJNIT9HFMMjCs"
)
NOT_THEIRS = [
    "user_id", "id", "owner", "role", "position", "created_at", "updated_at", "status", "length",
    "email_verified", "is_admin", "superseded", "turn_id", "worker_id", "fence", "fingerprint",
    "password_hash", "hash", "prefix", "key", "disabled_at", "expires_in", "storage_key", "sid",
    "idempotency_key", "history", "messages", "system", "model_config", "__proto__", "$ref",
]  # fmt: skip
HIDDEN = {
    "user_id", "owner", "owner_id", "password_hash", "hash", "password", "storage", "storage_key",
    "fingerprint", "worker_id", "fence", "idempotency_key", "cancel_requested", "superseded_by",
    "disabled_at", "family", "sid", "used_at", "secret",
}  # fmt: skip


@dataclass(frozen=True)
class Theirs:
    """What is somebody's, by the name that a route has for it; and the cursors of their lists."""

    ids: dict[str, object]
    conversation: Conversation


async def give(app: FastAPI, store: Store, user_id: str) -> Theirs:
    async with store.begin(user_id) as tx:
        await tx.accounts.set_password(PASSWORD_HASH)
        for name in ("first", "second"):
            draft = NewKey(new_id(), f"{user_id} {name}", "prefix", name, None)
            key = await tx.keys.create(draft)
    await make_conversation(store, user_id)
    conversation = await make_conversation(store, user_id, title=f"of {user_id}")
    reply = await record(store, user_id, conversation.id, f"said by {user_id}")
    for name in ("first", "second"):
        file = await app.state.services.files.upload(user_id, upload_of(f"{name} of {user_id}"))
    ids: dict[str, object] = {
        "conversation_id": conversation.id,
        "turn_id": reply.turn_id,
        "key_id": key.id,
        "file_id": file.id,
        "attachments": file.id,
        "user_id": "me",
    }
    return Theirs(ids, conversation)


@pytest.fixture
async def theirs(app: FastAPI, store: Store, bob: str) -> Theirs:
    return await give(app, store, bob)


@pytest.fixture
async def hers(app: FastAPI, store: Store, alice: str) -> Theirs:
    return await give(app, store, alice)


@pytest.fixture
def ask(client: AsyncClient, bearer) -> Callable[..., Any]:
    async def send(
        operation: Operation, ids: dict[str, object], user_id: str | None, **changes: Any
    ) -> Response:
        if operation.takes_a_file:
            body = {"files": {"file": ("a.txt", b"hello", "text/plain")}}
        else:
            body = {"json": changes.pop("body", operation.body)}
        return await client.request(
            operation.method,
            operation.path.format(**ids),
            **body,
            headers={} if user_id is None else bearer(user_id),
            **changes,
        )

    return send


def comparable(response: Response, *ids: object) -> str:
    body = re.sub(r'"request_id":"[^"]*"', "", response.text)
    for known in ids:
        body = body.replace(str(known), "ID")
    return body


async def everything(store: Store, theirs: Theirs, user_id: str) -> list[object]:
    async with store.begin(user_id, read_only=True) as tx:
        return [
            await tx.conversations.newest(100, None),
            await tx.messages.history(
                theirs.conversation.id, 1000, max_messages=100, max_characters=10_000
            ),
            await tx.turns.get(theirs.ids["turn_id"]),  # type: ignore[arg-type]
            await tx.keys.newest(100, None),
            await tx.files.newest(100, None),
            await tx.accounts.get(),
            await tx.sessions.live(session_of(user_id)),
        ]


def taking(where: str, *names: str) -> list[Any]:
    """The operations that take one of these there."""
    return [
        pytest.param(operation, name, id=f"{operation} {name}")
        for operation in OPERATIONS
        for place, name in operation.ids()
        if place == where and name in names
    ]


def test_every_id_that_a_route_takes_is_tried_here():
    """Whoever adds one of another name says how somebody else's is answered."""
    assert {taken for operation in OPERATIONS for taken in operation.ids()} == TRIED


class TestAnothersId:
    @pytest.mark.parametrize(
        ("operation", "name"), taking("path", "conversation_id", "turn_id", "key_id", "file_id")
    )
    async def test_in_a_path_is_answered_as_a_missing_one_and_nothing_happens(
        self,
        store: Store,
        theirs: Theirs,
        alice: str,
        bob: str,
        ask,
        operation: Operation,
        name: str,
    ):
        """Rows 27, 30, 32 and 65."""
        before, missing = await everything(store, theirs, bob), new_id()
        answers = [
            await ask(operation, theirs.ids | {name: which}, alice)
            for which in (theirs.ids[name], missing)
        ]

        assert [404, 404] == [answer.status_code for answer in answers]
        assert comparable(answers[0], theirs.ids[name]) == comparable(answers[1], missing)
        assert before == await everything(store, theirs, bob)

    @pytest.mark.parametrize(
        ("operation", "name"), taking("body", "conversation_id", "attachments")
    )
    async def test_in_a_body_is_answered_as_a_missing_one_and_nothing_happens(
        self,
        store: Store,
        theirs: Theirs,
        alice: str,
        bob: str,
        ask,
        operation: Operation,
        name: str,
    ):
        """Rows 28 and 31."""
        before, missing = await everything(store, theirs, bob), new_id()
        answers = [
            await ask(
                operation, theirs.ids, alice, body=operation.body | naming(name, which, operation)
            )
            for which in (theirs.ids[name], missing)
        ]

        assert [404, 404] == [answer.status_code for answer in answers]
        assert comparable(answers[0], theirs.ids[name]) == comparable(answers[1], missing)
        assert before == await everything(store, theirs, bob)
        async with store.begin(alice) as tx:
            assert [] == await tx.conversations.newest(10, None)
            assert None is await tx.turns.running(theirs.conversation.id)

    @pytest.mark.parametrize("operation", OPERATIONS, ids=str)
    async def test_is_his_own_to_use(self, theirs: Theirs, bob: str, ask, operation: Operation):
        """Or the refusals above would prove nothing. What he is answered tells nothing hidden."""
        answer = await ask(operation, theirs.ids, bob)

        assert PROVING.get(operation.name, answer.status_code) == answer.status_code
        assert answer.is_success or operation.name in PROVING, answer.text
        assert set() == keys_of(values_of(answer)) & HIDDEN


class TestAnothersCursor:
    @pytest.mark.parametrize(("operation", "name"), taking("query", "cursor"))
    async def test_is_no_cursor_nor_is_one_that_was_changed(
        self,
        theirs: Theirs,
        hers: Theirs,
        alice: str,
        bob: str,
        ask,
        operation: Operation,
        name: str,
    ):
        """Row 33."""
        his, her = [
            (await ask(operation, whose.ids, user_id, params={"limit": 1})).json()["next_cursor"]
            for whose, user_id in ((theirs, bob), (hers, alice))
        ]
        assert 200 == (await ask(operation, hers.ids, alice, params={name: her})).status_code

        changed = [her[:-1], her[1:], her[::-1], f"{her}AAAA", f"{her[:4]}{'A' * 8}{her[12:]}", ""]
        for cursor in (his, *changed):
            answer = await ask(operation, hers.ids, alice, params={name: cursor})
            assert (400, "invalid-cursor") == (answer.status_code, answer.json()["code"]), cursor

    async def test_nor_is_one_of_another_list_of_ones_own(self, hers: Theirs, alice: str, ask):
        lists = [operation for operation in OPERATIONS if ("query", "cursor") in operation.ids()]
        cursors = {
            operation.name: (await ask(operation, hers.ids, alice, params={"limit": 1})).json()[
                "next_cursor"
            ]
            for operation in lists
        }
        for operation, (other, cursor) in product(lists, cursors.items()):
            answer = await ask(operation, hers.ids, alice, params={"cursor": cursor})
            assert (200 if other == operation.name else 400) == answer.status_code


class TestAnothersPath:
    @pytest.mark.parametrize(("operation", "name"), taking("path", "user_id"))
    async def test_it_is_403(
        self, theirs: Theirs, alice: str, bob: str, ask, operation: Operation, name: str
    ):
        """Row 26; also of a user who is not there."""
        for user_id in (bob, str(new_id()), alice.upper(), f"{alice}_"):
            answer = await ask(operation, theirs.ids | {name: user_id}, alice)
            assert (403, "not-your-resource") == (answer.status_code, answer.json()["code"])

    @pytest.mark.parametrize(
        ("spelt", "status"),
        [("a" * 65, 422), ("a b", 422), ("%00", 422), ("é", 422), ("a%2Fb", 404), ("a/b", 404)],
    )
    @pytest.mark.parametrize(("operation", "name"), taking("path", "user_id"))
    async def test_what_is_no_user_id_is_refused(
        self,
        hers: Theirs,
        alice: str,
        ask,
        operation: Operation,
        name: str,
        spelt: str,
        status: int,
    ):
        answer = await ask(operation, hers.ids | {name: spelt}, alice)

        assert status == answer.status_code


class TestAFieldThatIsNotTheirs:
    @pytest.fixture
    def settings(self) -> Settings:
        """There are more fields than one may log in with."""
        return Settings(auth_secret=SECRET, rate_limit_auth="1000/minute")

    @pytest.mark.parametrize(
        "operation", [each for each in OPERATIONS if each.body_schema is not None], ids=str
    )
    async def test_is_refused_whichever_it_is(
        self, store: Store, hers: Theirs, alice: str, ask, operation: Operation
    ):
        """Rows 34 and 36."""
        before = await everything(store, hers, alice)
        for field in {*NOT_THEIRS} - operation.body_schema["properties"].keys():
            answer = await ask(operation, hers.ids, alice, body=operation.body | {field: "x"})
            assert 422 == answer.status_code, field
            told = [(fault["location"], fault["code"]) for fault in answer.json()["errors"]]
            assert (["body", field], "extra-forbidden") in told
        assert before == await everything(store, hers, alice)

    def test_is_refused_by_every_schema(self):
        for operation in OPERATIONS:
            schema = operation.body_schema
            assert schema is None or schema["additionalProperties"] is False, operation


def values_of(answer: Response) -> object:
    match answer.headers["Content-Type"].partition(";")[0]:
        case "application/json":
            return answer.json()
        case "text/event-stream":
            return [event.data for event in parse(answer.text)]
        case "application/jsonl":
            return [json.loads(line) for line in answer.text.splitlines()]
        case _:
            return answer.text


def keys_of(value: object) -> set[str]:
    match value:
        case dict():
            # What a user keeps in `metadata` is theirs.
            return {*value} | set().union(*(keys_of(each) for each in value.values()))
        case list():
            return set().union(*map(keys_of, value)) if value else set()
        case _:
            return set()


class TestAnAnswer:
    @pytest.mark.parametrize("operation", OPERATIONS, ids=str)
    def test_has_no_place_for_what_is_hidden(self, operation: Operation):
        """Row 35."""
        for response in operation.spec["responses"].values():
            for content in response.get("content", {}).values():
                assert set() == properties(content.get("schema", {})) & HIDDEN


class TestNobody:
    @pytest.mark.parametrize(
        "operation", [each for each in OPERATIONS if str(each) not in OPEN], ids=str
    )
    async def test_gets_to_no_route_but_the_open_ones(
        self, theirs: Theirs, ask, operation: Operation
    ):
        answer = await ask(operation, theirs.ids, None)

        assert 401 == answer.status_code
        assert "Bearer" == answer.headers["WWW-Authenticate"]

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


class TestWhatIsNotThere:
    @pytest.mark.parametrize("path", SPEC["paths"])
    async def test_a_method_that_a_path_has_not_is_405_and_those_it_has_are_named(
        self, client: AsyncClient, hers: Theirs, alice: str, bearer, path: str
    ):
        """Row 37."""
        has = {method.upper() for method in SPEC["paths"][path]}
        for method in {method.upper() for method in METHODS} - has | {"FROB"}:
            answer = await client.request(method, path.format(**hers.ids), headers=bearer(alice))
            assert 405 == answer.status_code, method
            assert has == set(re.split(r",\s*", answer.headers["Allow"])), method

    @pytest.mark.parametrize(
        "path",
        [
            "/admin", "/debug", "/api", "/api/v1", "/api/v1/users", "/api/v1/admin/users", "/.env",
            "/api/v1/auth", "/api/v1/auth/users", "/api/v2/conversations", "/api/v1/turns",
            "/api/v1/conversations/", "/api/v1/me/conversations", "/openapi.yaml", "/metrics/",
            "/health/ready/", "/docs/../metrics/x", "/internal", "/server-status", "/graphql",
        ],
    )  # fmt: skip
    async def test_an_unknown_path_is_404_for_whoever_asks(
        self, client: AsyncClient, alice: str, bearer, path: str
    ):
        for headers in ({}, bearer(alice)):
            for method in ("GET", "POST", "DELETE"):
                answer = await client.request(method, path, headers=headers)
                assert (404, "not-found") == (answer.status_code, answer.json()["code"])
