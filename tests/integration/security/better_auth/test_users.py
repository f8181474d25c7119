"""Users of a real Better Auth (services/auth) at Parley."""

from collections.abc import AsyncGenerator, Callable

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from parley.core.settings import Settings
from parley.main import create_app
from tests.better_auth import SESSION_TABLE, BetterAuth, Installation, Person
from tests.conftest import SECRET
from tests.databases import DatabaseUrls, connected

PAGE = "https://chat.example.com"
Credential = Callable[[BetterAuth, Person], dict[str, str]]


def jwt(desk: BetterAuth, person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {desk.jwt(person)}"}


def jwt_of_session(desk: BetterAuth, person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {desk.jwt_of_session(person)}"}


def bearer(_desk: BetterAuth, person: Person) -> dict[str, str]:
    return person.bearer


def cookie(_desk: BetterAuth, person: Person) -> dict[str, str]:
    return {"Cookie": person.cookie, "Origin": PAGE}


looked_up = pytest.mark.parametrize("credential", [bearer, cookie])


@pytest.fixture
def parley(
    better_auth: BetterAuth, installation: Installation, shared_database: DatabaseUrls
) -> FastAPI:
    return create_app(
        Settings(
            auth_mode=("better-auth",),
            auth_secret=SECRET,
            better_auth_url=better_auth.url,
            better_auth_secret=better_auth.secret,
            better_auth_database_url=installation.reader_url,
            better_auth_session_table=SESSION_TABLE,
            cors_origins=(PAGE,),
            database_url=shared_database.api,
            database_timeout_seconds=30,
        )
    )


@pytest.fixture
async def client(parley: FastAPI) -> AsyncGenerator[AsyncClient]:
    async with parley.router.lifespan_context(parley):
        async with AsyncClient(transport=ASGITransport(parley), base_url="http://test") as client:
            yield client


async def chat(
    client: AsyncClient, headers: dict[str, str], user_id: str = "me"
) -> tuple[int, str | None]:
    """The status, and the code of a refusal."""
    path = f"/api/v1/{user_id}/chat"
    answer = await client.post(path, json={"message": "hello"}, headers=headers)
    return answer.status_code, answer.json().get("code")


class TestSignedIn:
    @pytest.mark.parametrize("credential", [jwt, jwt_of_session, bearer, cookie])
    async def test_each_credential_speaks_for_its_user_and_nobody_else(
        self,
        client: AsyncClient,
        better_auth: BetterAuth,
        ann: Person,
        ben: Person,
        credential: Credential,
    ):
        headers = credential(better_auth, ann)

        assert (200, None) == await chat(client, headers, ann.user_id)
        assert 403 == (await chat(client, headers, ben.user_id))[0]  # row 26

    async def test_one_users_words_are_not_the_others(
        self, client: AsyncClient, better_auth: BetterAuth, ann: Person, ben: Person
    ):
        """Row 27; by JWT and by bearer one is the same user."""
        said = await client.post("/api/v1/me/chat", json={"message": "mine"}, headers=ann.bearer)
        path = f"/api/v1/conversations/{said.json()['conversation_id']}"

        assert 200 == (await client.get(path, headers=jwt(better_auth, ann))).status_code
        assert 404 == (await client.get(path, headers=ben.bearer)).status_code

    async def test_a_cookie_counts_only_from_a_page_that_may_call(
        self, client: AsyncClient, ann: Person
    ):
        """Row 73."""
        headers = {"Cookie": ann.cookie}

        for origin in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
            assert (403, "origin-refused") == await chat(client, headers | origin)


class TestSignedOut:
    """Row 13."""

    @looked_up
    async def test_the_session_is_refused_at_once(
        self,
        client: AsyncClient,
        better_auth: BetterAuth,
        ann: Person,
        credential: Credential,
    ):
        headers = credential(better_auth, ann)
        assert (200, None) == await chat(client, headers)

        better_auth.sign_out(ann)

        assert (401, "unauthenticated") == await chat(client, headers)

    async def test_another_session_of_theirs_goes_on(
        self, client: AsyncClient, better_auth: BetterAuth, ann: Person
    ):
        elsewhere = better_auth.sign_in(ann.email)

        better_auth.sign_out(ann)

        assert (200, None) == await chat(client, elsewhere.bearer, ann.user_id)

    async def test_a_jwt_lives_until_it_expires(
        self, client: AsyncClient, better_auth: BetterAuth, ann: Person
    ):
        """It names no session: 15 minutes, as documented."""
        headers = jwt(better_auth, ann)

        better_auth.sign_out(ann)

        assert (200, None) == await chat(client, headers)


class TestForged:
    """Rows 1 to 10, for what is signed with the secret and looked up."""

    @looked_up
    async def test_a_session_that_has_expired_is_refused(
        self,
        client: AsyncClient,
        better_auth: BetterAuth,
        ann: Person,
        credential: Credential,
    ):
        async with connected(better_auth.owner_url) as owner:
            await owner.execute(
                """UPDATE session SET "expiresAt" = now() WHERE "userId" = $1""", ann.user_id
            )

        assert (401, "unauthenticated") == await chat(client, credential(better_auth, ann))

    async def test_an_unsigned_token_is_worth_nothing_at_better_auth_either(
        self, better_auth: BetterAuth, ann: Person
    ):
        """Else what the table has in clear would be good for a JWT, and that for Parley."""
        token, _, _ = ann.token.partition(".")
        headers = {"Authorization": f"Bearer {token}"}
        async with AsyncClient(base_url=f"{better_auth.url}/api/auth") as desk:
            jwt_of_it = await desk.get("/token", headers=headers)
            session = await desk.get("/get-session", headers=headers)

        assert 401 == jwt_of_it.status_code
        assert (None, False) == (session.json(), "set-auth-jwt" in session.headers)

    async def test_a_signature_of_another_token_or_secret_is_refused(
        self, client: AsyncClient, ann: Person, ben: Person
    ):
        token, _, signature = ann.token.partition(".")
        _, _, bens = ben.token.partition(".")

        for forged in (
            f"{token}.{bens}",
            f"{token}.",
            f"{token}.{signature[:-4]}",
            f".{signature}",
        ):
            headers = {"Authorization": f"Bearer {forged}"}
            assert (401, "unauthenticated") == await chat(client, headers), forged
            headers = {"Cookie": f"better-auth.session_token={forged}", "Origin": PAGE}
            assert (401, "unauthenticated") == await chat(client, headers), forged
