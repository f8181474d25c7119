"""What `parley doctor` says of each fault that can be seen from inside, and that it says what to do."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from parley.cli.doctor import database, examine
from tests.conftest import SECRET
from tests.databases import DatabaseUrls, connected
from tests.proxy import Proxy, proxied
from tests.servers import redis_server

WELL = {"settings", "database", "clock", "schema", "indexes", "writing", "redis", "files", "model"}


@pytest.fixture(autouse=True)
def told(postgres: DatabaseUrls, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "AUTH_SECRET": SECRET,
        "DATABASE_URL": postgres.api,
        "DATABASE_TIMEOUT_SECONDS": "30",
        "REDIS_URL": redis_url,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("parley.crud.redis.connection.TIMEOUT_SECONDS", 30)


async def faults() -> dict[str, str]:
    """What is not well, and what is said of it; nothing of it is a password."""
    found = await examine()
    assert SECRET not in str(found)
    assert "\n" not in "".join(finding.detail for finding in found)
    return {finding.name: finding.detail for finding in found if not finding.ok}


async def test_all_is_well():
    found = await examine()

    assert {True} == {finding.ok for finding in found}
    assert WELL == {finding.name for finding in found}


class TestDatabase:
    async def test_that_is_down(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("DATABASE_URL", "postgresql://parley_api:canary@127.0.0.1:1/parley")

        (name, detail), *others = (await faults()).items()

        assert ("database", []) == (name, others)
        assert "nothing listens" in detail
        assert "canary" not in detail

    @pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "a" * 64])
    async def test_whose_host_nobody_knows(self, host: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("DATABASE_URL", f"postgresql://parley_api:x@{host}/parley")

        detail = (await faults())["database"]

        assert "no host has that name" in detail
        assert "a container that is stopped" in detail

    async def test_that_takes_another_password(
        self, postgres: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
    ):
        role, _, rest = postgres.api.partition("@")
        monkeypatch.setenv("DATABASE_URL", f"{role}-canary@{rest}")

        detail = (await faults())["database"]

        assert "refuses the role or its password" in detail
        assert "canary" not in detail

    async def test_that_is_not_there(
        self, postgres: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("DATABASE_URL", f"{postgres.api}-not")

        assert "no such database" in (await faults())["database"]

    async def test_that_says_nothing(self, wire: tuple[Proxy, str], monkeypatch):
        proxy, url = wire
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("DATABASE_TIMEOUT_SECONDS", "0.5")
        proxy.freeze()

        assert "does not answer in DATABASE_TIMEOUT_SECONDS" in (await faults())["database"]

    async def test_that_has_no_connection_left(self, postgres: DatabaseUrls):
        async with connected(postgres.owner) as owner:
            name = await owner.fetchval("SELECT current_database()")
            await owner.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')

        assert "max_connections" in (await faults())["database"]

    async def test_that_only_reads(self, postgres: DatabaseUrls):
        async with connected(postgres.owner) as owner:
            name = await owner.fetchval("SELECT current_database()")
            await owner.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')

        found = await faults()

        assert {"writing"} == found.keys()
        assert "only reads" in found["writing"]

    async def test_whose_schema_is_old(self, postgres: DatabaseUrls):
        async with connected(postgres.owner) as owner:
            await owner.execute("UPDATE alembic_version SET version_num = '0001'")

        found = await faults()

        assert {"schema"} == found.keys()
        assert found["schema"].startswith("0001, but this release needs ")
        assert "run `parley migrate`" in found["schema"]

    async def test_that_was_never_migrated(self, postgres: DatabaseUrls):
        async with connected(postgres.owner) as owner:
            await owner.execute("DROP TABLE alembic_version")

        assert "run `parley migrate`" in (await faults())["schema"]

    async def test_what_it_asks_leaves_nothing(self, postgres: DatabaseUrls):
        await examine()

        async with connected(postgres.owner) as owner:
            assert 0 == await owner.fetchval("SELECT count(*) FROM workers")

    @pytest.fixture
    async def wire(self, postgres: DatabaseUrls) -> AsyncGenerator[tuple[Proxy, str]]:
        async with proxied(postgres.api) as proxy_and_url:
            yield proxy_and_url


class TestClock:
    @pytest.mark.parametrize(
        ("hours", "expected"), [(1, "1:00:00 ahead of"), (-1, "1:00:00 behind")]
    )
    async def test_that_is_off(self, monkeypatch: pytest.MonkeyPatch, hours: int, expected: str):
        class Wrong(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return datetime.now(tz or UTC) + timedelta(hours=hours)

        monkeypatch.setattr(database, "datetime", Wrong)

        found = await faults()

        assert {"clock"} == found.keys()
        assert found["clock"].startswith(expected)
        assert "NTP" in found["clock"]


class TestRedis:
    async def test_that_is_down(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")

        found = await faults()

        assert {"redis"} == found.keys()
        assert "is it running" in found["redis"]

    async def test_that_takes_no_such_password(
        self, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("REDIS_URL", redis_url.replace("://", "://:canary@"))

        detail = (await faults())["redis"]

        assert "user and password" in detail
        assert "canary" not in detail

    async def test_that_has_no_room(self, monkeypatch: pytest.MonkeyPatch):
        with redis_server("--maxmemory", "1", "--maxmemory-policy", "noeviction") as url:
            monkeypatch.setenv("REDIS_URL", url)

            assert "maxmemory" in (await faults())["redis"]

    async def test_that_forgets_when_it_is_full(self, monkeypatch: pytest.MonkeyPatch):
        with redis_server("--maxmemory-policy", "allkeys-lru") as url:
            monkeypatch.setenv("REDIS_URL", url)

            assert "allkeys-lru" in (await faults())["redis"]

    async def test_that_is_a_replica(self, monkeypatch: pytest.MonkeyPatch):
        with redis_server("--replicaof", "127.0.0.1 1") as url:
            monkeypatch.setenv("REDIS_URL", url)

            assert "must lead to the primary" in (await faults())["redis"]


class TestFiles:
    async def test_a_folder_that_takes_nothing(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("FILES_URL", "file:///proc/parley")

        found = await faults()

        assert {"files"} == found.keys()
        assert "file:///proc/parley is no good" in found["files"]
        assert "writable" in found["files"]
