"""
Group A of the design's security.md, over HTTP: whose token is believed, and whose it is not.

The issuers are ours; test_better_auth.py beside this has the real Better Auth.
"""

import hmac
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from httpx import ASGITransport, AsyncClient, Response

from parley.core.settings import Settings
from parley.main import create_app
from tests.conftest import SECRET
from tests.databases import DatabaseUrls
from tests.issuers import (
    Issuer,
    KeyServer,
    SigningKey,
    better_auth_issuer,
    key_server,
    oidc_issuer,
    signed_session,
    subject_id,
)
from tests.session_table import SECRET as BETTER_AUTH_SECRET
from tests.session_table import SessionTable
from tests.unit.core.security.forge import segment

TOKEN = "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDac"
ANN = "AnnAnnAnnAnnAnnAnnAnnAnnAnnAnnAn"
PAGE = "https://chat.test"
SIGNED = signed_session(TOKEN, BETTER_AUTH_SECRET)
COOKIE = f"better-auth.session_token={signed_session(TOKEN, BETTER_AUTH_SECRET, encoded=True)}"
LOGIN = {"email": "ann@example.com", "password": "correct horse battery staple"}

Clients = Callable[..., AbstractAsyncContextManager[AsyncClient]]


@pytest.fixture
async def oidc() -> AsyncGenerator[tuple[Issuer, KeyServer]]:
    issuer = oidc_issuer()
    async with key_server(issuer.key) as server:
        yield issuer, server


@pytest.fixture
async def better_auth() -> AsyncGenerator[tuple[Issuer, KeyServer]]:
    async with key_server() as server:
        issuer = better_auth_issuer(server.url)
        server.has(issuer.key)
        yield issuer, server


@pytest.fixture
async def table(postgres: DatabaseUrls) -> SessionTable:
    table = SessionTable(postgres)
    await table.create()
    await table.sign_in(TOKEN, ANN)
    return table


@pytest.fixture
def clients(
    oidc: tuple[Issuer, KeyServer], better_auth: tuple[Issuer, KeyServer], table: SessionTable
) -> Clients:
    """An API that believes whom it is told to; everything else is set in any case."""

    @asynccontextmanager
    async def made(*auth_mode: str, **settings: Any) -> AsyncGenerator[AsyncClient]:
        everything: dict[str, Any] = {
            "auth_mode": auth_mode or ("local", "jwks", "better-auth"),
            "auth_secret": SECRET,
            "database_url": table.urls.api,
            "database_timeout_seconds": 30,
            "cors_origins": (PAGE,),
            "auth_jwks_url": f"{oidc[1].url}/.well-known/jwks.json",
            "auth_issuer": oidc[0].issuer,
            "auth_audience": oidc[0].audience,
            "better_auth_url": better_auth[1].url,
            "better_auth_secret": BETTER_AUTH_SECRET,
            "better_auth_database_url": table.urls.api,
            "better_auth_session_table": table.name,
        }
        app = create_app(Settings(**everything | settings))
        async with app.router.lifespan_context(app):
            async with AsyncClient(transport=ASGITransport(app), base_url="http://api") as client:
                yield client

    return made


async def asked(client: AsyncClient, token: str | None = None, **headers: str) -> Response:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return await client.get("/api/v1/conversations", headers=headers)


async def who(client: AsyncClient, token: str | None = None, **headers: str) -> str:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    answer = await client.get("/api/v1/auth/me", headers=headers)
    assert 200 == answer.status_code, answer.text
    return str(answer.json()["id"])


def assert_refused(*answers: Response) -> None:
    assert {(401, "unauthenticated")} == {(a.status_code, a.json()["code"]) for a in answers}
    assert all("WWW-Authenticate" in answer.headers for answer in answers)


class TestBelieved:
    async def test_each_issuers_user_is_another(
        self, clients: Clients, oidc: tuple[Issuer, KeyServer], better_auth: tuple[Issuer, Any]
    ):
        async with clients() as client:
            registered = await client.post("/api/v1/auth/register", json=LOGIN)
            local = registered.json()
            ids = [
                await who(client, local["access_token"]),
                await who(client, oidc[0].token()),
                await who(client, oidc[0].token(sub=ANN)),
                await who(client, better_auth[0].token(sub=ANN)),
            ]

        assert [
            local["user"]["id"],
            subject_id(oidc[0].issuer, "auth0|0123456789abcdef"),
            subject_id(oidc[0].issuer, ANN),
            ANN,
        ] == ids

    async def test_better_auths_jwt_session_and_cookie_are_one_user(
        self, clients: Clients, better_auth: tuple[Issuer, KeyServer]
    ):
        async with clients("better-auth") as client:
            ids = {
                await who(client, better_auth[0].token(sub=ANN)),
                await who(client, SIGNED),
                await who(client, COOKIE.partition("=")[2]),
                await who(client, Cookie=COOKIE),
            }

        assert {ANN} == ids

    async def test_what_one_wrote_the_other_does_not_see(
        self, clients: Clients, oidc: tuple[Issuer, KeyServer], better_auth: tuple[Issuer, Any]
    ):
        """Both issuers call their user the same."""
        async with clients() as client:
            token = oidc[0].token(sub=ANN)
            said = await client.post(
                "/api/v1/me/chat",
                json={"message": "hello"},
                headers={"Authorization": f"Bearer {token}"},
            )
            assert 200 == said.status_code
            path = f"/api/v1/conversations/{said.json()['conversation_id']}"
            other = {"Authorization": f"Bearer {better_auth[0].token(sub=ANN)}"}

            assert 404 == (await client.get(path, headers=other)).status_code
            assert [] == (await client.get("/api/v1/conversations", headers=other)).json()["items"]
            whose = subject_id(oidc[0].issuer, ANN)
            theirs = await client.post(
                f"/api/v1/{whose}/chat", json={"message": "x"}, headers=other
            )
            assert 403 == theirs.status_code

    async def test_keys_are_asked_for_once_and_not_where_a_token_says(
        self, clients: Clients, oidc: tuple[Issuer, KeyServer]
    ):
        issuer, server = oidc
        stranger = SigningKey("stranger")
        async with clients("jwks") as client, key_server(stranger) as attackers:
            for _ in range(5):
                assert 200 == (await asked(client, issuer.token())).status_code
            forged = {
                "jku": attackers.url,
                "x5u": attackers.url,
                "jwk": stranger.jwk,
                "kid": stranger.kid,
            }
            assert_refused(await asked(client, issuer.token(forged, key=stranger)))

            assert [] == attackers.asked
        (request,) = server.asked
        assert request.startswith("GET /.well-known/jwks.json ")


class TestRefused:
    @pytest.mark.parametrize("mode", ["local", "jwks", "better-auth"])
    async def test_an_issuer_whose_mode_is_off(
        self,
        mode: str,
        clients: Clients,
        oidc: tuple[Issuer, KeyServer],
        better_auth: tuple[Issuer, KeyServer],
    ):
        async with clients() as client:
            registered = await client.post("/api/v1/auth/register", json=LOGIN)
        tokens = {
            "local": [registered.json()["access_token"]],
            "jwks": [oidc[0].token()],
            "better-auth": [better_auth[0].token(), SIGNED],
        }
        async with clients(mode) as client:
            for token in tokens.pop(mode):
                assert 200 == (await asked(client, token)).status_code
            for token in chain.from_iterable(tokens.values()):
                assert_refused(await asked(client, token))
            if mode != "better-auth":
                assert_refused(await asked(client, Cookie=COOKIE))

    async def test_row_3_an_hmac_with_a_public_key_whoever_it_names(
        self, clients: Clients, oidc: tuple[Issuer, KeyServer], better_auth: tuple[Issuer, Any]
    ):
        pems = [
            issuer.key.private.public_key().public_bytes(
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            )
            for issuer, _ in (oidc, better_auth)
        ]
        async with clients() as client:
            for iss, aud in [
                ("parley", "parley"),
                (oidc[0].issuer, oidc[0].audience),
                (better_auth[0].issuer, better_auth[0].audience),
            ]:
                for pem in pems:
                    header = {"alg": "HS256", "typ": "at+jwt"}
                    token = oidc[0].token(header, iss=iss, aud=aud, jti="x", sid="x")
                    covered = token.rpartition(".")[0]
                    mac = segment(hmac.digest(pem, covered.encode(), "sha256"))
                    assert_refused(await asked(client, f"{covered}.{mac}"))

    async def test_row_10_a_token_of_one_issuer_in_anothers_name(
        self, clients: Clients, oidc: tuple[Issuer, KeyServer], better_auth: tuple[Issuer, Any]
    ):
        one, other = oidc[0], better_auth[0]
        async with clients() as client:
            assert_refused(
                await asked(client, one.token(iss=other.issuer, aud=other.audience)),
                await asked(client, other.token(iss=one.issuer, aud=one.audience)),
                await asked(client, one.token(iss="parley", aud="parley")),
                await asked(client, one.token(iss="https://nobody.test/")),
                await asked(client, one.token(aud="https://other.chat.test")),
            )

    async def test_row_8_a_token_that_has_run_out(
        self, clients: Clients, oidc: tuple[Issuer, KeyServer]
    ):
        async with clients("jwks") as client:
            assert_refused(await asked(client, oidc[0].token(exp=1)))

    async def test_an_issuer_that_never_answered_is_503_and_one_that_did_is_believed_on(
        self, clients: Clients, oidc: tuple[Issuer, KeyServer]
    ):
        issuer, server = oidc
        async with clients("jwks") as client:
            assert 200 == (await asked(client, issuer.token())).status_code
            await server.stop()
            assert 200 == (await asked(client, issuer.token(x=1))).status_code
        async with clients("jwks") as client:
            answer = await asked(client, issuer.token())

        assert (503, "issuer-unavailable") == (answer.status_code, answer.json()["code"])
        assert 1 <= int(answer.headers["Retry-After"]) <= 5


class TestSessions:
    @pytest.mark.parametrize("how", ["bearer", "cookie"])
    async def test_row_13_signing_out_counts_at_once(
        self, how: str, clients: Clients, table: SessionTable
    ):
        credential = {
            "bearer": {"Authorization": f"Bearer {SIGNED}"},
            "cookie": {"Cookie": COOKIE},
        }[how]
        async with clients("better-auth") as client:
            assert 200 == (await asked(client, **credential)).status_code
            await table.sign_out(TOKEN)

            assert_refused(await asked(client, **credential))

    async def test_row_8_a_session_that_has_ended(self, clients: Clients, table: SessionTable):
        await table.sign_in("b" * 32, ANN, lasts=timedelta(seconds=-1))
        async with clients("better-auth") as client:
            ended = signed_session("b" * 32, BETTER_AUTH_SECRET)

            assert_refused(await asked(client, ended))

    @pytest.mark.parametrize(
        "forged",
        [
            TOKEN,
            f"{TOKEN}.",
            f"{TOKEN}.{'A' * 43}=",
            signed_session(TOKEN, SECRET),
            signed_session("nobody's", BETTER_AUTH_SECRET),
            signed_session("", BETTER_AUTH_SECRET),
            f"{SIGNED}.{'a' * 9000}",
        ],
    )
    async def test_one_that_better_auth_has_not_signed(self, forged: str, clients: Clients):
        """Also the token alone, which is what its table, and a backup of it, has in clear."""
        async with clients("better-auth") as client:
            assert_refused(
                await asked(client, forged),
                await asked(client, Cookie=f"better-auth.session_token={forged}"),
            )

    @pytest.mark.parametrize("user_id", ["j_" + "a" * 43, "me/x", "a" * 65, ""])
    async def test_of_a_user_that_nobody_may_be(
        self, user_id: str, clients: Clients, table: SessionTable
    ):
        await table.sign_in("b" * 32, user_id)
        async with clients("better-auth") as client:
            assert_refused(await asked(client, signed_session("b" * 32, BETTER_AUTH_SECRET)))

    async def test_the_table_may_be_in_another_database(self, clients: Clients, sqlite_url: str):
        async with clients("better-auth", database_url=sqlite_url) as client:
            assert ANN == await who(client, SIGNED)

    async def test_no_table_is_503(self, clients: Clients):
        async with clients("better-auth", better_auth_session_table="nowhere") as client:
            answer = await asked(client, SIGNED)

        assert (503, "database-unavailable") == (answer.status_code, answer.json()["code"])


class TestCookie:
    """Row 73."""

    async def say(self, client: AsyncClient, **headers: str) -> Response:
        return await client.post(
            "/api/v1/me/chat", json={"message": "hello"}, headers={"Cookie": COOKIE, **headers}
        )

    async def test_a_page_that_is_named_may_write(
        self, clients: Clients, better_auth: tuple[Issuer, KeyServer]
    ):
        async with clients("better-auth") as client:
            for origin in (PAGE, better_auth[1].url, "http://api"):
                assert 200 == (await self.say(client, Origin=origin)).status_code

    @pytest.mark.parametrize("headers", [{}, {"Origin": "null"}, {"Origin": "https://evil.test"}])
    async def test_no_other_may_and_nothing_is_written(
        self, headers: dict[str, str], clients: Clients, request: pytest.FixtureRequest
    ):
        async with clients("better-auth") as client:
            logged = request.getfixturevalue("logged")  # a start sends the lines elsewhere
            refused = await self.say(client, **headers)
            listed = await client.get("/api/v1/conversations", headers={"Cookie": COOKIE})

        assert (403, "origin-refused") == (refused.status_code, refused.json()["code"])
        assert [] == listed.json()["items"]
        assert '"access-refused"' in logged.getvalue()

    async def test_another_page_does_not_even_read(self, clients: Clients):
        async with clients("better-auth") as client:
            answers = [
                await asked(client, Cookie=COOKIE, Origin="https://evil.test"),
                await asked(client, Cookie=COOKIE, **{"Sec-Fetch-Site": "cross-site"}),
            ]

        assert [403, 403] == [answer.status_code for answer in answers]

    async def test_row_16_it_carries_nothing_but_a_session_and_never_beside_a_token(
        self, clients: Clients, better_auth: tuple[Issuer, KeyServer], oidc: tuple[Issuer, Any]
    ):
        async with clients() as client:
            registered = await client.post("/api/v1/auth/register", json=LOGIN)
            access = registered.json()["access_token"]
            for token in (access, better_auth[0].token(), oidc[0].token()):
                cookie = f"better-auth.session_token={token}"
                assert_refused(await asked(client, Cookie=cookie))
            assert_refused(
                await asked(client, "x", Cookie=COOKIE),
                await asked(client, Cookie=COOKIE, Authorization="Basic eDp4"),
                await asked(client, Cookie=f"{COOKIE}; {COOKIE}"),
                await asked(client, Cookie="better-auth.session_data=e30"),
            )
            assert registered.json()["user"]["id"] == await who(client, access, Cookie=COOKIE)
