"""The database goes and comes back: 503 meanwhile, and nothing to do afterwards."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response
from sqlalchemy import text

from parley.core.database import create_engine
from parley.core.errors import DatabaseUnavailable
from parley.core.settings import Settings
from parley.crud.sql.database import SqlDatabase
from parley.main import create_app
from parley.wiring import open_store
from tests.conftest import SECRET
from tests.databases import DatabaseUrls, connected
from tests.factories import make_account
from tests.proxy import Proxy, proxied
from tests.responders import Gated, Scripted
from tests.stores import patient_store, until_back

# What a client waits for an answer to give up: far beyond what is promised, for a busy machine.
PATIENCE_SECONDS = 30


@pytest.fixture
async def wire(postgres: DatabaseUrls) -> AsyncGenerator[tuple[Proxy, str]]:
    async with proxied(postgres.api) as proxy_and_url:
        yield proxy_and_url


@pytest.fixture
def proxy(wire: tuple[Proxy, str]) -> Proxy:
    return wire[0]


async def sign_up(url: str, user_id: str) -> None:
    store = patient_store(url)
    await make_account(store, user_id)
    await store.close()


@pytest.fixture
async def app(wire: tuple[Proxy, str], responder, alice: str) -> AsyncGenerator[FastAPI]:
    settings = Settings(auth_secret=SECRET, database_url=wire[1])
    await sign_up(wire[1], alice)
    app = create_app(settings, responder=responder)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncGenerator[AsyncClient]:
    transport = ASGITransport(app)
    async with AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
def say(client: AsyncClient, alice: str, bearer):
    async def send(**body) -> Response:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await client.post(
                "/api/v1/me/chat", json={"message": "hello", **body}, headers=bearer(alice)
            )

    return send


def assert_unavailable(response: Response) -> None:
    assert (503, "database-unavailable") == (response.status_code, response.json()["code"])
    assert 1 <= int(response.headers["Retry-After"]) <= 5


async def until_healthy(client: AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await client.get("/health/db")).status_code != 200:
            await asyncio.sleep(0.05)


async def stop(proxy: Proxy) -> None:
    await proxy.refuse()


async def start(proxy: Proxy) -> None:
    await proxy.serve()


async def pause(proxy: Proxy) -> None:
    proxy.freeze()


async def resume(proxy: Proxy) -> None:
    proxy.thaw()


@pytest.mark.parametrize(("fault", "mend"), [(stop, start), (pause, resume)])
class TestOutage:
    async def test_every_request_is_503_and_the_service_recovers_by_itself(
        self, client: AsyncClient, say, proxy: Proxy, alice: str, bearer, fault, mend
    ):
        first = await say()
        assert 200 == first.status_code
        await fault(proxy)

        for _ in range(8):
            assert_unavailable(await say())
        assert_unavailable(await client.get("/api/v1/conversations", headers=bearer(alice)))
        login = {"email": "ann@example.com", "password": "correct horse battery staple"}
        assert_unavailable(await client.post("/api/v1/auth/login", json=login))

        health = {
            path: (await client.get(path)).status_code
            for path in ("/health", "/health/ready", "/health/db", "/api/health")
        }
        assert {
            "/health": 200, "/health/ready": 200, "/health/db": 503, "/api/health": 503
        } == health  # fmt: skip
        ready = (await client.get("/health/ready")).json()
        assert ("ready", "disconnected") == (ready["status"], ready["database"])

        await mend(proxy)
        await until_healthy(client)
        again = await say(conversation_id=first.json()["conversation_id"])
        assert (200, 3) == (again.status_code, again.json()["message"]["position"])
        # The worker's lease may be renewed just then.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await client.get("/health/db")).json()["pool"]["in_use"]:
                await asyncio.sleep(0.05)


class TestBreaker:
    async def test_while_the_database_is_away_nobody_waits_for_it(
        self, wire: tuple[Proxy, str], alice: str, bearer
    ):
        proxy, url = wire
        settings = Settings(auth_secret=SECRET, database_url=url, database_timeout_seconds=60)
        store = open_store(settings)
        app = create_app(settings, store=store)
        async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
            await proxy.refuse()
            for _ in range(5):
                answer = await client.get("/api/v1/conversations", headers=bearer(alice))
                assert_unavailable(answer)
            proxy.freeze()
            await proxy.serve()

            # Whoever asked the frozen server would wait for close to a minute.
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = await client.get("/api/v1/conversations", headers=bearer(alice))
            assert_unavailable(answer)

            proxy.thaw()
            await until_healthy(client)
        await store.close()

    async def test_a_slow_database_that_is_back_is_believed(
        self, wire: tuple[Proxy, str], monkeypatch: pytest.MonkeyPatch
    ):
        """From far away a connection alone takes more than a second."""
        proxy, url = wire
        select_one = SqlDatabase._select_one  # noqa: SLF001 - nobody else asks it

        async def from_far_away(self: SqlDatabase) -> None:
            await asyncio.sleep(1.5)  # the time itself is the matter
            await select_one(self)

        monkeypatch.setattr(SqlDatabase, "_select_one", from_far_away)
        store = patient_store(url)
        await proxy.refuse()
        for _ in range(5):
            with pytest.raises(DatabaseUnavailable):
                await store.ping()
        await proxy.serve()

        await until_back(store, PATIENCE_SECONDS)
        await store.close()


class TestInMidTurn:
    @pytest.fixture
    def responder(self) -> Gated:
        return Gated("first ")

    async def test_a_restart_while_the_model_thinks_is_not_noticed(
        self, say, proxy: Proxy, responder: Gated, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("parley.services.turns.recording.AWAY_SECONDS", PATIENCE_SECONDS)
        asking = asyncio.create_task(say())
        await responder.asked.wait()
        await proxy.refuse()
        await proxy.serve()
        responder.gate.set()

        assert 200 == (await asking).status_code

    async def test_a_turn_that_could_not_be_recorded_is_once_it_can(
        self, say, client: AsyncClient, proxy: Proxy, responder: Gated, alice: str, bearer
    ):
        asking = asyncio.create_task(say())
        await responder.asked.wait()
        await proxy.refuse()
        responder.gate.set()
        lost = await asking
        assert_unavailable(lost)

        await proxy.serve()
        await until_healthy(client)
        turn_path = f"/api/v1/turns/{lost.json()['turn_id']}"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                turn = (await client.get(turn_path, headers=bearer(alice))).json()
                # On a busy machine it may still be said that the database is away.
                if turn["status"] not in {"running", 503}:
                    break
                await asyncio.sleep(0.05)
        assert ("complete", "hello") == (turn["status"], turn["message"]["content"])
        assert "problem" not in turn
        again = await say(conversation_id=lost.json()["conversation_id"])
        assert (200, turn["reply"]["position"] + 1) == (
            again.status_code,
            again.json()["message"]["position"],
        )


class TestStart:
    async def test_a_process_that_starts_without_its_database_becomes_ready_with_it(
        self, wire: tuple[Proxy, str], say_settings
    ):
        proxy, _ = wire
        await proxy.refuse()
        app = create_app(say_settings, responder=Scripted("ok"))
        async with app.router.lifespan_context(app):
            async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
                before = await client.get("/health/ready")
                assert (503, "not-ready") == (before.status_code, before.json()["status"])
                assert 200 == (await client.get("/health")).status_code

                await proxy.serve()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while (await client.get("/health/ready")).status_code != 200:
                        await asyncio.sleep(0.05)

    @pytest.fixture
    def say_settings(self, wire: tuple[Proxy, str]) -> Settings:
        return Settings(auth_secret=SECRET, database_url=wire[1])


class TestFailover:
    async def test_connections_to_a_server_that_only_reads_are_let_go(
        self, postgres: DatabaseUrls, alice: str, bearer
    ):
        """They stay as they were when they were opened, long after the server is another."""
        await sign_up(postgres.api, alice)
        read_only = f"ALTER DATABASE {postgres.name} SET default_transaction_read_only"
        async with connected(postgres.admin) as admin:
            await admin.execute(f"{read_only} = on")
        app = create_app(Settings(auth_secret=SECRET, database_url=postgres.api))
        async with app.router.lifespan_context(app):
            async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
                message = {"json": {"message": "hello"}, "headers": bearer(alice)}
                assert_unavailable(await client.post("/api/v1/me/chat", **message))

                async with connected(postgres.admin) as admin:
                    await admin.execute("SET default_transaction_read_only = off")
                    await admin.execute(f"{read_only} = off")
                assert 200 == (await client.post("/api/v1/me/chat", **message)).status_code


class TestIdle:
    async def test_a_connection_that_was_lost_while_idle_is_not_noticed(
        self, wire: tuple[Proxy, str], alice: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("parley.core.database._IDLE_SECONDS", 0)
        proxy, url = wire
        store = patient_store(url)
        for _ in range(2):
            await store.ping()
        await proxy.refuse()
        await proxy.serve()

        await store.ping()
        await store.close()


class TestClosing:
    async def test_a_connection_that_is_given_up_on_does_not_wait_for_a_frozen_server(
        self, wire: tuple[Proxy, str]
    ):
        """Its goodbye would be waited for beyond the request's deadline."""
        proxy, url = wire
        engine = create_engine(url)
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            driver = (await connection.get_raw_connection()).driver_connection
            proxy.freeze()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await driver.close(timeout=6 * PATIENCE_SECONDS)
            assert driver.is_closed()
            await connection.invalidate()
        await engine.dispose()


class TestCrowd:
    async def test_more_requests_than_connections_are_all_answered(
        self, postgres: DatabaseUrls, alice: str, bearer
    ):
        url, few = postgres.api, 3
        await sign_up(url, alice)
        settings = Settings(
            auth_secret=SECRET,
            database_url=url,
            database_timeout_seconds=30,
            database_pool_size=few,
        )
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
                message = {"json": {"message": "hello"}, "headers": bearer(alice)}
                responses = await asyncio.gather(
                    *(client.post("/api/v1/me/chat", **message) for _ in range(5 * few))
                )

        assert {200} == {response.status_code for response in responses}
