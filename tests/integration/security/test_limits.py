"""Rows 19, 20, 25 and 77 of the attacks: guessing, flooding, and saying that one is somebody else."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable
from io import StringIO
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from parley.core.settings import Settings
from parley.schemas.limits import Quota
from tests.conftest import SECRET
from tests.events import parse
from tests.responders import Gated

PASSWORD = "correct horse battery staple"
LOGIN, REGISTER = "/api/v1/auth/login", "/api/v1/auth/register"
CHANGE = "/api/v1/auth/password"
CHAT = "/api/v1/me/chat"
From = Callable[..., AsyncClient]
Bearer = Callable[[str], dict[str, str]]


@pytest.fixture
def backend() -> str:
    return "memory"


@pytest.fixture
def settings() -> Settings:
    return Settings(
        auth_secret=SECRET,
        auth_refresh_grace_seconds=60,
        rate_limit_auth="9/hour",
        rate_limit_chat="5/hour",
        streams_max_per_user=2,
        trusted_proxies="10.0.0.0/8",
    )


@pytest.fixture
async def at(app: FastAPI) -> AsyncGenerator[From]:
    """A client at an address; `headers` are those of all its requests."""
    clients: list[AsyncClient] = []

    def at(address: str | None, **headers: str) -> AsyncClient:
        peer = None if address is None else (address, 4711)
        transport = ASGITransport(app, client=peer)  # type: ignore[arg-type]
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        clients.append(AsyncClient(transport=transport, base_url="http://test", headers=names))
        return clients[-1]

    yield at
    for client in clients:
        await client.aclose()


async def guess(
    client: AsyncClient, email: str = "ann@example.com", path: str = LOGIN, **headers: str
) -> Response:
    body = {"email": email, "password": "not her password"}
    return await client.post(path, json=body, headers=headers)


async def statuses(times: int, once: Callable[[int], object]) -> list[int]:
    return [(await once(number)).status_code for number in range(times)]  # type: ignore[attr-defined]


class TestGuessing:
    @pytest.mark.parametrize("path", [LOGIN, REGISTER], ids=["row 19", "row 20"])
    async def test_an_account_is_tried_a_third_as_often_as_an_address_may(
        self, at: From, path: str
    ):
        client = at("203.0.113.7")

        outcomes = [await guess(client, path=path) for _ in range(4)]

        assert 429 not in [answer.status_code for answer in outcomes[:3]]
        assert 429 == outcomes[3].status_code
        assert "rate-limited" == outcomes[3].json()["code"]
        assert 1 <= int(outcomes[3].headers["Retry-After"]) <= 3600

    @pytest.mark.parametrize("path", [LOGIN, REGISTER], ids=["row 19", "row 20"])
    async def test_many_accounts_are_tried_from_an_address_so_often(self, at: From, path: str):
        client = at("203.0.113.7")

        outcomes = await statuses(10, lambda n: guess(client, f"user{n}@example.com", path))

        assert 429 not in outcomes[:9]
        assert 429 == outcomes[9]

    async def test_logging_in_and_registering_count_together(self, at: From):
        client = at("203.0.113.7")

        outcomes = [(await guess(client, path=path)).status_code for path in [LOGIN, REGISTER] * 2]

        assert [401, 201, 200, 429] == outcomes

    async def test_a_known_and_an_unknown_account_are_limited_alike(self, at: From):
        await at("198.51.100.1").post(
            REGISTER, json={"email": "ann@example.com", "password": PASSWORD}
        )
        client = at("203.0.113.7")

        for email in ("ann@example.com", "nobody@example.com"):
            assert [401, 401, 401, 429] == await statuses(4, lambda _, e=email: guess(client, e))

    @pytest.mark.parametrize(
        "spellings",
        [
            ["ann@example.com", "Ann@example.com", "ANN@EXAMPLE.COM", " ann@example.com "],
            ["j\u00fcrgen@example.com", "ju\u0308rgen@example.com", "JU\u0308RGEN@example.com"]
            * 2,
            ["kim@example.com", "\u212aim@example.com"] * 2,
        ],
        ids=["case and spaces", "composed", "kelvin sign"],
    )
    async def test_another_spelling_is_the_same_account(self, at: From, spellings: list[str]):
        client = at("203.0.113.7")

        outcomes = await statuses(4, lambda n: guess(client, spellings[n]))

        assert [401, 401, 401, 429] == outcomes

    async def test_nobody_locks_another_out(self, at: From):
        body = {"email": "ann@example.com", "password": PASSWORD}
        await at("198.51.100.1").post(REGISTER, json=body)
        attacker = at("203.0.113.7")
        await statuses(100, lambda _: guess(attacker))

        assert 200 == (await at("198.51.100.1").post(LOGIN, json=body)).status_code
        # Not even with the right password.
        assert 429 == (await attacker.post(LOGIN, json=body)).status_code

    async def test_a_body_that_makes_no_sense_counts_for_the_address(self, at: From):
        client = at("203.0.113.7")

        outcomes = await statuses(10, lambda _: client.post(LOGIN, json={"email": 7}))

        assert [422] * 9 + [429] == outcomes

    async def test_a_password_is_changed_as_often_as_one_may_log_in(self, at: From):
        client = at("203.0.113.7")
        sessions = [
            await client.post(
                REGISTER, json={"email": f"{name}@example.com", "password": PASSWORD}
            )
            for name in ("ann", "bob")
        ]
        ann, bob = ({"Authorization": f"Bearer {s.json()['access_token']}"} for s in sessions)
        change = {"current": "a guess of somebody", "new": "another long password"}

        outcomes = await statuses(4, lambda _: client.post(CHANGE, json=change, headers=ann))

        assert [403, 403, 403, 429] == outcomes
        assert 403 == (await client.post(CHANGE, json=change, headers=bob)).status_code

    async def test_a_refusal_costs_no_hashing(
        self, at: From, monkeypatch: pytest.MonkeyPatch, app: FastAPI
    ):
        client = at("203.0.113.7")
        await statuses(3, lambda _: guess(client))
        monkeypatch.setattr(app.state.services.accounts, "_passwords", None)

        assert 429 == (await guess(client)).status_code

    async def test_ipv6_neighbours_are_one(self, at: From):
        outcomes = await statuses(4, lambda n: guess(at(f"2001:db8:1:2:{n}::1")))

        assert [401, 401, 401, 429] == outcomes
        assert 401 == (await guess(at("2001:db8:1:3::1"))).status_code

    async def test_all_that_have_no_address_are_one(self, at: From):
        assert [401, 401, 401, 429] == await statuses(4, lambda _: guess(at(None)))

    async def test_a_refusal_is_audited_without_the_account(self, at: From, logged: StringIO):
        client = at("203.0.113.7")
        await statuses(4, lambda _: guess(client))

        lines = [json.loads(line) for line in logged.getvalue().splitlines()]
        (refusal,) = [line for line in lines if line["event"] == "rate-limited"]
        assert ("account", "203.0.113.7") == (refusal["limit"], refusal["client_address"])
        assert "ann@example.com" not in logged.getvalue()


class TestForwarded:
    """Row 25."""

    async def test_what_a_stranger_says_of_itself_does_not_count(self, at: From):
        client = at("203.0.113.7")

        outcomes = await statuses(
            4, lambda n: guess(client, **{"X-Forwarded-For": f"198.51.100.{n}"})
        )

        assert [401, 401, 401, 429] == outcomes

    async def test_behind_a_trusted_proxy_each_client_counts_apart(self, at: From):
        outcomes = await statuses(
            4, lambda n: guess(at("10.0.0.1", x_forwarded_for=f"198.51.100.{n}"))
        )

        assert [401] * 4 == outcomes

    @pytest.mark.parametrize(
        "forwarded",
        [
            pytest.param("192.0.2.{n}, 203.0.113.7", id="before the proxy's part"),
            pytest.param("{n}, 203.0.113.7", id="garbage before it"),
            pytest.param("203.0.113.7:{n}", id="garbage in it"),
            pytest.param("192.0.2.{n}, 10.9.9.9x, 203.0.113.7", id="nearly a proxy"),
            pytest.param("::ffff:203.0.113.7, 10.0.0.{n}", id="other proxies"),
        ],
    )
    async def test_what_a_client_puts_before_it_does_not_count(self, at: From, forwarded: str):
        outcomes = await statuses(
            4, lambda n: guess(at("10.0.0.1", x_forwarded_for=forwarded.format(n=n)))
        )

        assert [401, 401, 401, 429] == outcomes

    async def test_of_several_headers_the_last_part_counts(self, app: FastAPI):
        transport = ASGITransport(app, client=("10.0.0.1", 4711))
        async with AsyncClient(transport=transport, base_url="http://test") as client:
            outcomes = [
                await client.post(
                    LOGIN,
                    json={"email": "ann@example.com", "password": "not hers"},
                    headers=[
                        ("X-Forwarded-For", f"192.0.2.{n}"),
                        ("X-Forwarded-For", "203.0.113.7"),
                    ],
                )
                for n in range(4)
            ]

        assert [401, 401, 401, 429] == [answer.status_code for answer in outcomes]


class TestWhatIsLeft:
    async def test_a_reply_says_it(self, client: AsyncClient, bearer: Bearer, alice: str):
        answer = await client.post(CHAT, json={"message": "hi"}, headers=bearer(alice))

        assert '"chat";q=5;w=3600' == answer.headers["RateLimit-Policy"]
        assert re.fullmatch(r'"chat";r=4;t=3[56]\d\d', answer.headers["RateLimit"])
        assert "Retry-After" not in answer.headers

    async def test_so_does_a_stream(self, client: AsyncClient, bearer: Bearer, alice: str):
        body = {"message": "hi", "stream": True}
        answer = await client.post(CHAT, json=body, headers=bearer(alice))

        assert "done" == parse(answer.text)[-1].name
        assert answer.headers["RateLimit"].startswith('"chat";r=4;t=')

    async def test_so_does_a_refused_login_for_both_its_limits(self, client: AsyncClient):
        answer = await guess(client)

        assert 401 == answer.status_code
        assert '"address";q=9;w=3600, "account";q=3;w=3600' == answer.headers["RateLimit-Policy"]
        assert re.fullmatch(
            r'"address";r=8;t=3[56]\d\d, "account";r=2;t=3[56]\d\d', answer.headers["RateLimit"]
        )

    async def test_so_does_a_429_and_when_to_come_again(
        self, client: AsyncClient, bearer: Bearer, alice: str, bob: str
    ):
        for _ in range(6):
            answer = await client.post(CHAT, json={"message": "hi"}, headers=bearer(alice))

        assert 429 == answer.status_code
        assert f'"chat";r=0;t={answer.headers["Retry-After"]}' == answer.headers["RateLimit"]
        others = await client.post(CHAT, json={"message": "hi"}, headers=bearer(bob))
        assert 200 == others.status_code

    async def test_who_is_not_let_in_does_not_count(
        self, client: AsyncClient, bearer: Bearer, alice: str, bob: str
    ):
        for _ in range(6):
            path = f"/api/v1/{alice}/chat"
            answer = await client.post(path, json={"message": "hi"}, headers=bearer(bob))
            assert 403 == answer.status_code

        for who in (alice, bob):
            answer = await client.post(CHAT, json={"message": "hi"}, headers=bearer(who))
            assert 200 == answer.status_code

    async def test_the_deprecated_path_counts_too(
        self, client: AsyncClient, bearer: Bearer, alice: str
    ):
        paths = [CHAT, "/api/me/chat"] * 3

        outcomes = await statuses(
            6, lambda n: client.post(paths[n], json={"message": "hi"}, headers=bearer(alice))
        )

        assert [200] * 5 + [429] == outcomes

    async def test_a_conversation_without_a_message_counts_as_one(
        self, client: AsyncClient, bearer: Bearer, alice: str
    ):
        paths = [CHAT, "/api/v1/conversations"] * 3
        outcomes = [
            (await client.post(path, json=body, headers=bearer(alice))).status_code
            for path, body in zip(paths, [{"message": "hello"}, {}] * 3, strict=True)
        ]

        assert [200, 201, 200, 201, 200, 429] == outcomes

    async def test_a_session_is_refreshed_so_often(
        self, at: From, monkeypatch: pytest.MonkeyPatch
    ):
        """Within the grace a token may be used again, and each time is a row more."""
        monkeypatch.setattr("parley.services.limits.REFRESHES", Quota("refresh", 5, 3600))
        client = at("203.0.113.7")
        credentials = {"email": "ann@example.com", "password": PASSWORD}
        token = (await client.post(REGISTER, json=credentials)).json()["refresh_token"]
        answers = [
            await client.post("/api/v1/auth/refresh", json={"refresh_token": token})
            for _ in range(6)
        ]

        assert [200] * 5 + [429] == [answer.status_code for answer in answers]
        assert '"refresh";q=5;w=3600' == answers[-1].headers["RateLimit-Policy"]
        stranger = await client.post("/api/v1/auth/refresh", json={"refresh_token": "x"})
        assert 401 == stranger.status_code

    async def test_other_paths_say_nothing_of_it(self, client: AsyncClient):
        assert "RateLimit" not in (await client.get("/health")).headers


class TestOpenStreams:
    """Row 77."""

    @pytest.fixture
    def responder(self) -> Gated:
        return Gated("first ")

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(auth_secret=SECRET, streams_max_per_user=2)

    @pytest.mark.parametrize("stream", [True, False])
    async def test_a_user_has_so_many_open(
        self,
        client: AsyncClient,
        bearer: Bearer,
        alice: str,
        bob: str,
        responder: Gated,
        logged: StringIO,
        *,
        stream: bool,
    ):
        body = {"message": "hi", "stream": stream}
        open_ones = [await begin(client, body, bearer(alice), responder) for _ in range(2)]

        refused = await client.post(CHAT, json=body, headers=bearer(alice))
        others = await begin(client, body, bearer(bob), responder)

        assert (429, "too-many-streams") == (refused.status_code, refused.json()["code"])
        assert 1 <= int(refused.headers["Retry-After"])
        (line,) = [line for line in logged.getvalue().splitlines() if '"rate-limited"' in line]
        assert ("streams", alice) == (json.loads(line)["limit"], json.loads(line)["user_id"])
        responder.gate.set()
        for task in (*open_ones, others):
            assert 200 == (await task).status_code
        assert 200 == (await client.post(CHAT, json=body, headers=bearer(alice))).status_code

    async def test_who_hangs_up_keeps_the_slot_until_the_turn_has_ended(
        self, app: FastAPI, client: AsyncClient, bearer: Bearer, alice: str, responder: Gated
    ):
        body = {"message": "hi", "stream": True}
        for _ in range(2):
            await hang_up(app, body, bearer(alice), responder)

        assert 429 == (await client.post(CHAT, json=body, headers=bearer(alice))).status_code

        responder.gate.set()
        while app.state.runner.is_busy:
            await asyncio.sleep(0.01)
        assert 200 == (await client.post(CHAT, json=body, headers=bearer(alice))).status_code

    async def test_all_that_run_can_be_read_again_and_no_more(
        self, app: FastAPI, client: AsyncClient, bearer: Bearer, alice: str, responder: Gated
    ):
        """The laptop that was closed on every one of them is opened again."""
        for _ in range(2):
            await hang_up(app, {"message": "hi", "stream": True}, bearer(alice), responder)
        listed = await client.get("/api/v1/conversations", headers=bearer(alice))
        paths = []
        for conversation in listed.json()["items"]:
            path = f"/api/v1/conversations/{conversation['id']}"
            running = (await client.get(path, headers=bearer(alice))).json()["running_turn"]
            paths.append(f"/api/v1/turns/{running['id']}/events")
        readers = [Reader(app, None, bearer(alice), path) for path in paths]
        for reader in readers:
            await reader.is_sent_something.wait()

        refused = await client.get(paths[0], headers=bearer(alice))

        assert [200, 200] == [reader.status for reader in readers]
        assert (429, "too-many-streams") == (refused.status_code, refused.json()["code"])
        responder.gate.set()
        for reader in readers:
            await reader.read_all()
        assert 200 == (await client.get(paths[0], headers=bearer(alice))).status_code

    async def test_who_does_not_read_keeps_the_slot_when_the_turn_has_ended(
        self, app: FastAPI, client: AsyncClient, bearer: Bearer, alice: str, responder: Gated
    ):
        responder.gate.set()
        body = {"message": "hi", "stream": True}
        readers = [Reader(app, body, bearer(alice)) for _ in range(2)]
        for reader in readers:
            await reader.is_sent_something.wait()
        while app.state.runner.is_busy:
            await asyncio.sleep(0.01)

        assert 429 == (await client.post(CHAT, json=body, headers=bearer(alice))).status_code

        for reader in readers:
            await reader.read_all()
        assert 200 == (await client.post(CHAT, json=body, headers=bearer(alice))).status_code

    async def test_a_turn_that_is_refused_or_fails_leaves_no_slot_taken(
        self, client: AsyncClient, bearer: Bearer, alice: str, responder: Gated
    ):
        responder.gate.set()
        missing = {"message": "hi", "conversation_id": "0193497d-8a7d-7c0b-b4f6-d1f0a4a7ce55"}
        for _ in range(5):
            answer = await client.post(CHAT, json=missing, headers=bearer(alice))
            assert 404 == answer.status_code

        answer = await client.post(CHAT, json={"message": "hi"}, headers=bearer(alice))

        assert 200 == answer.status_code


async def begin(
    client: AsyncClient, body: dict[str, object], headers: dict[str, str], responder: Gated
) -> "asyncio.Task[Response]":
    """A request whose turn waits for the model."""
    responder.asked.clear()
    task = asyncio.create_task(client.post(CHAT, json=body, headers=headers))
    await responder.asked.wait()
    return task


class Reader:
    """A client that takes the first event, and the rest when it is told to, or hangs up."""

    def __init__(
        self,
        app: FastAPI,
        body: dict[str, object] | None,
        headers: dict[str, str],
        path: str = CHAT,
    ) -> None:
        self.status = 0
        self.is_sent_something = asyncio.Event()
        self._reads = asyncio.Event()
        self._gone = asyncio.Event()
        self._body = json.dumps(body).encode() if body else b""
        self._is_asked = False
        names = {"host": "test", "content-type": "application/json", **headers}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST" if body else "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(n.lower().encode(), v.encode()) for n, v in names.items()],
            "client": ("203.0.113.7", 4711),
        }
        self._task = asyncio.create_task(app(scope, self._receive, self._send))

    async def read_all(self) -> None:
        self._reads.set()
        await self._task

    async def hang_up(self) -> None:
        self._gone.set()
        await self._task

    async def _receive(self) -> dict[str, object]:
        if not self._is_asked:
            self._is_asked = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)
        if message["type"] == "http.response.body":
            self.is_sent_something.set()
            await self._reads.wait()


async def hang_up(
    app: FastAPI, body: dict[str, object], headers: dict[str, str], responder: Gated
) -> None:
    responder.asked.clear()
    reader = Reader(app, body, headers)
    await responder.asked.wait()
    await reader.hang_up()
