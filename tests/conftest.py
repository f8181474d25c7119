import asyncio
import logging
import shutil
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack
from io import StringIO
from pathlib import Path

import hypothesis
import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from parley.cli.migrate import upgrade
from parley.core.ids import new_id
from parley.core.logging import configure_logging
from parley.core.security.tokens import LocalTokens
from parley.core.settings import Settings
from parley.crud.memory.store import MemoryStore, empty_tables
from parley.crud.ports import Blobs, Store
from parley.main import create_app
from parley.services.responders.base import Responder
from parley.services.responders.echo import EchoResponder
from parley.wiring import open_blobs
from tests.clocks import LoopClock
from tests.databases import Databases, DatabaseUrls
from tests.factories import make_account, session_of
from tests.s3 import make_bucket, s3_server
from tests.servers import postgres_server, redis_server
from tests.stores import TIMEOUT_SECONDS, patient_store

# A slow machine is no fault; where CI=true Hypothesis has no deadline by itself.
hypothesis.settings.register_profile("parley", deadline=None)
hypothesis.settings.load_profile("parley")

SECRET = "a secret of the tests, with more than 32 bytes"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-embedded",
        action="store_true",
        help="Leave out what runs on memory or SQLite: another PostgreSQL makes no difference to it.",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("no_embedded"):
        embedded = [item for item in items if _is_embedded(item)]
        config.hook.pytest_deselected(items=embedded)
        items[:] = [item for item in items if not _is_embedded(item)]


def _is_embedded(item: pytest.Item) -> bool:
    given = getattr(item, "callspec", None)
    return given is not None and given.params.get("backend") in {"memory", "sqlite"}


@pytest.fixture(autouse=True)
def empty_memory_store() -> Generator[None]:
    empty_tables()
    yield
    empty_tables()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's `.env`, `var/` and environment are theirs."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no outage; what tests slowness itself says how slow."""
    for name in (
        "core.database.POOL_WAIT_SECONDS",
        "crud.sql.database.POOL_WAIT_SECONDS",
        "main.START_SECONDS",
        "core.security.jwks.TIMEOUT_SECONDS",
        "services.chat.ACCEPT_SECONDS",
        "services.health.PROBE_SECONDS",
        "services.responders.openai.responder.LAST_WORDS_SECONDS",
        "services.turns.runner.LAST_WORDS_SECONDS",
        "services.turns.service.END_SECONDS",
    ):
        monkeypatch.setattr(f"parley.{name}", TIMEOUT_SECONDS)
    # Where no worker renews it, a turn is as good as abandoned behind it.
    for module in ("crud.memory.store", "crud.sql.store", "services.workers"):
        monkeypatch.setattr(f"parley.{module}.LEASE_SECONDS", 600)


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id as ever, in 1 MiB instead of 64: a test hashes up to a dozen of them."""
    hasher = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=1024),))
    monkeypatch.setattr(PasswordHash, "recommended", lambda: hasher)


@pytest.fixture(scope="session")
def postgres_admin_url() -> Generator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Generator[str]:
    with redis_server() as url:
        yield url


@pytest.fixture(scope="session")
def s3_url() -> Generator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(scope="session")
def databases(postgres_admin_url: str) -> Generator[Databases]:
    databases = Databases(postgres_admin_url)
    asyncio.run(databases.make_template(upgrade))
    yield databases
    asyncio.run(databases.close())


@pytest.fixture
async def postgres(databases: Databases) -> AsyncGenerator[DatabaseUrls]:
    """A migrated PostgreSQL database of this test's own."""
    urls = await databases.clone()
    yield urls
    await databases.drop(urls)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated SQLite database of this test's own."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'parley.db')}"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def store_url(backend: str, request: pytest.FixtureRequest) -> str | None:
    """As the API's role; None for memory."""
    # Not in `store`: what these start runs an event loop of its own.
    match backend:
        case "sqlite":
            return request.getfixturevalue("sqlite_url")
        case "postgres":
            return request.getfixturevalue("postgres").api
        case _:
            return None


@pytest.fixture
async def store(store_url: str | None) -> AsyncGenerator[Store]:
    """Every back end behind the same door; a test that asks for it runs on all of them."""
    if store_url is None:
        yield MemoryStore()
        return
    store = patient_store(store_url)
    yield store
    await store.close()


@pytest.fixture
def settings() -> Settings:
    return Settings(auth_secret=SECRET)


@pytest.fixture
def file_settings_of(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[str], dict[str, str]]:
    """What to set for a file store of a kind, new for this test."""

    def choose(kind: str) -> dict[str, str]:
        match kind:
            case "s3":
                endpoint = request.getfixturevalue("s3_url")
                return {
                    "files_url": f"s3://{make_bucket(endpoint)}/some/where",
                    "s3_endpoint": endpoint,
                    "s3_access_key_id": "parley",
                    "s3_secret_access_key": SECRET,
                }
            case "file":
                return {"files_url": f"file://{tmp_path}/files"}
            case _:
                return {"files_url": "memory://"}

    return choose


@pytest.fixture(params=["memory", "file", "s3"])
def file_settings(
    request: pytest.FixtureRequest, file_settings_of: Callable[[str], dict[str, str]]
) -> dict[str, str]:
    """A file store of each kind; a test that asks for it runs on all of them."""
    return file_settings_of(request.param)


@pytest.fixture
async def blobs(file_settings: dict[str, str]) -> AsyncGenerator[Blobs]:
    async with AsyncExitStack() as closing:
        yield open_blobs(Settings(**file_settings), closing)


@pytest.fixture
def responder() -> Responder:
    """What answers in this test; override it for another."""
    return EchoResponder()


@pytest.fixture
async def app(
    settings: Settings, store: Store, responder: Responder, alice: str, bob: str
) -> AsyncGenerator[FastAPI]:
    for user_id in (alice, bob):
        await make_account(store, user_id)
    app = create_app(settings, store=store, responder=responder)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.fixture
async def loop_clock(monkeypatch: pytest.MonkeyPatch) -> LoopClock:
    """Of the test's own loop: what waits in it for a time has waited as soon as a test says so."""
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop.time)
    monkeypatch.setattr(loop, "time", clock)
    return clock


@pytest.fixture
def logged() -> Generator[StringIO]:
    """Every line that is logged from here on, as a container would write it; ask for it last."""
    configure_logging("DEBUG", "json")
    (handler,) = [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler]
    output = StringIO()
    handler.setStream(output)
    yield output
    configure_logging("WARNING", "json")


@pytest.fixture
def alice() -> str:
    """
    As another issuer's user may be called: without an account, too, there is something to begin.

    Where there is an `app` she has an account and a session, and so has Bob.
    """
    return f"alice-{new_id().hex}"


@pytest.fixture
def bob() -> str:
    return f"bob-{new_id().hex}"


@pytest.fixture
def bearer() -> Callable[[str], dict[str, str]]:
    """The header of a token for the session that `make_account` opened."""
    tokens = LocalTokens(SECRET, lifetime_seconds=300)
    return lambda user_id: {
        "Authorization": f"Bearer {tokens.issue(user_id, session_of(user_id))}"
    }
