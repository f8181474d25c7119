import pytest
from httpx import AsyncClient, Response

from parley.crud.ports import Store

PASSWORD = "correct horse battery staple"


@pytest.fixture
def send(client: AsyncClient):
    async def post(action: str, email: str = "ann@example.com", password: str = PASSWORD):
        return await client.post(
            f"/api/v1/auth/{action}", json={"email": email, "password": password}
        )

    return post


class TestRegister:
    async def test_a_new_account_has_a_session(self, send, client: AsyncClient):
        response = await send("register")

        assert 201 == response.status_code
        session = response.json()
        assert {
            "user", "access_token", "token_type", "expires_in", "refresh_token"
        } == set(session)  # fmt: skip
        assert {"id", "email", "created_at"} == set(session["user"])
        assert ("bearer", 900) == (session["token_type"], session["expires_in"])

        token = {"Authorization": f"Bearer {session['access_token']}"}
        me = await client.get("/api/v1/auth/me", headers=token)
        assert {"id": session["user"]["id"], "email": "ann@example.com"} == me.json()
        chat = await client.post(
            f"/api/v1/{session['user']['id']}/chat", json={"message": "hello"}, headers=token
        )
        assert 200 == chat.status_code

    async def test_a_known_address_is_taken_however_it_is_written(self, send):
        await send("register")
        response = await send("register", email=" ANN@Example.com ")

        assert (409, "email-taken") == (response.status_code, response.json()["code"])

    @pytest.mark.parametrize(
        ("email", "password"),
        [
            ("ann", PASSWORD),
            ("ann@", PASSWORD),
            ("a nn@example.com", PASSWORD),
            ("ann@example.com\u0000", PASSWORD),
            ("a" * 300 + "@example.com", PASSWORD),
            ("ann@example.com", "eleven char"),
            ("ann@example.com", "x" * 129),
            ("ann@example.com", "x" * 900_000),
        ],
    )
    async def test_what_is_no_address_or_no_password_is_refused_and_not_repeated(
        self, send, email: str, password: str
    ):
        response = await send("register", email=email, password=password)

        assert 422 == response.status_code
        assert password not in response.text
        assert 1 == len(response.json()["errors"])


class TestLogin:
    async def test_address_and_password_open_a_session(self, send):
        registered = (await send("register")).json()
        response = await send("login", email="Ann@example.COM")

        assert 200 == response.status_code
        assert registered["user"] == response.json()["user"]

    async def test_an_unknown_address_and_a_wrong_password_are_answered_alike(self, send):
        def seen(response: Response) -> dict[str, object]:
            varying = {"request_id"}
            return {name: v for name, v in response.json().items() if name not in varying}

        await send("register")
        wrong = await send("login", password="wrong")
        unknown = await send("login", email="bob@example.com")

        assert (401, "invalid-credentials") == (wrong.status_code, wrong.json()["code"])
        assert wrong.status_code == unknown.status_code
        assert seen(wrong) == seen(unknown)
        assert "Bearer" == wrong.headers["WWW-Authenticate"]


class TestMe:
    async def test_a_token_that_outlived_its_account_is_401(
        self, client: AsyncClient, store: Store, alice: str, bearer
    ):
        """Another process may have deleted it; this one asks again within seconds."""
        assert 200 == (await client.get("/api/v1/auth/me", headers=bearer(alice))).status_code
        async with store.begin(alice) as tx:
            await tx.accounts.delete()
        response = await client.get("/api/v1/auth/me", headers=bearer(alice))

        assert (401, "account-gone") == (response.status_code, response.json()["code"])
        assert 'Bearer error="invalid_token"' == response.headers["WWW-Authenticate"]
