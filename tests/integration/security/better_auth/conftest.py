import asyncio
from collections.abc import AsyncGenerator, Generator

import pytest

from tests.better_auth import BetterAuth, Installation, Person
from tests.databases import Databases, DatabaseUrls


@pytest.fixture(scope="session")
def shared_database(databases: Databases) -> Generator[DatabaseUrls]:
    urls = asyncio.run(databases.clone())
    yield urls
    asyncio.run(databases.drop(urls))


@pytest.fixture(scope="session")
def installation(shared_database: DatabaseUrls) -> Generator[Installation]:
    """With its tables, and the grants of grants.sql."""
    installation = Installation(shared_database)
    asyncio.run(installation.make_roles())
    installation.migrate()
    yield installation
    asyncio.run(installation.remove())


@pytest.fixture(scope="session")
def better_auth(installation: Installation) -> Generator[BetterAuth]:
    with installation.served() as better_auth:
        yield better_auth


@pytest.fixture
def ann(better_auth: BetterAuth) -> Person:
    return better_auth.sign_up()


@pytest.fixture
def ben(better_auth: BetterAuth) -> Person:
    return better_auth.sign_up()


@pytest.fixture
async def another(postgres: DatabaseUrls) -> AsyncGenerator[Installation]:
    """In a database of this test's own, with roles and a schema, and no table."""
    another = Installation(postgres)
    await another.make_roles()
    yield another
    await another.remove()
