"""Databases for the tests, made from one migrated template, with the two roles of roles.sql."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg

ROLES_SQL = Path(__file__).parents[1] / "deploy/postgres/roles.sql"


@dataclass(frozen=True)
class DatabaseUrls:
    """One database, three ways in."""

    name: str
    owner: str = field(repr=False)
    api: str = field(repr=False)
    admin: str = field(repr=False)


class Databases:
    """
    A migrated template and its clones, of one test run or of one of its workers.

    - Databases and roles carry a suffix of this run, so that runs may share a server.
    - A clone has what the template had, and nobody has used it before.
    - `close` drops all that was made, whoever is still connected; a run that is killed before it
      leaves them behind, which matters only where TEST_DATABASE_URL names a server that stays.
    - No connection outlives the call that opened it, so any event loop may make the next call, and
      several may at once.
    """

    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url
        run = secrets.token_hex(4)
        self._prefix = f"parley_{run}"
        self._owner, self._api = f"parley_owner_{run}", f"parley_api_{run}"
        self._passwords = {self._owner: secrets.token_hex(16), self._api: secrets.token_hex(16)}
        self._numbers = count(1)
        self._made: set[str] = set()

    async def make_template(self, migrate: Callable[[str], None]) -> None:
        """
        Once, before the first `clone`.

        `migrate` gets the owner's URL, in a thread of its own; it must leave no connection open.
        """
        template = self._urls("template")
        self._made.add(template.name)
        async with connected(self._admin_url) as connection:
            # Nobody can be connected to template0, as somebody may be to the usual template1.
            await connection.execute(f"CREATE DATABASE {template.name} TEMPLATE template0")
        await make_roles(
            template.admin,
            owner=self._owner,
            owner_password=self._passwords[self._owner],
            api=self._api,
            api_password=self._passwords[self._api],
        )
        async with connected(self._admin_url) as connection:
            # To end a connection, as `drop` does, one must have the powers of who opened it.
            await connection.execute(f"GRANT {self._owner}, {self._api} TO CURRENT_USER")
        await asyncio.to_thread(migrate, template.owner)
        # A template that somebody is connected to cannot be cloned.
        async with connected(self._admin_url) as connection:
            await connection.execute(f"ALTER DATABASE {template.name} ALLOW_CONNECTIONS false")

    async def clone(self) -> DatabaseUrls:
        urls = self._urls(str(next(self._numbers)))
        self._made.add(urls.name)
        async with connected(self._admin_url) as connection:
            await connection.execute(
                f"CREATE DATABASE {urls.name} TEMPLATE {self._prefix}_template OWNER {self._owner}"
            )
            # What is granted on the database itself is not copied from the template.
            await connection.execute(
                f"REVOKE ALL ON DATABASE {urls.name} FROM PUBLIC;"
                f"GRANT CONNECT ON DATABASE {urls.name} TO {self._api}"
            )
        return urls

    async def drop(self, urls: DatabaseUrls) -> None:
        """Also when somebody is connected; a second time does nothing."""
        async with connected(self._admin_url) as connection:
            await connection.execute(f"DROP DATABASE IF EXISTS {urls.name} WITH (FORCE)")
        self._made.discard(urls.name)

    async def close(self) -> None:
        async with connected(self._admin_url) as connection:
            while self._made:
                name = self._made.pop()
                await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            await connection.execute(f"DROP ROLE IF EXISTS {self._owner}, {self._api}")

    def _urls(self, name: str) -> DatabaseUrls:
        database = f"{self._prefix}_{name}"
        return DatabaseUrls(
            name=database,
            owner=url_of(
                self._admin_url, database, user=self._owner, password=self._passwords[self._owner]
            ),
            api=url_of(
                self._admin_url, database, user=self._api, password=self._passwords[self._api]
            ),
            admin=url_of(self._admin_url, database),
        )


async def make_roles(
    admin_url: str, *, owner: str, owner_password: str | None, api: str, api_password: str
) -> None:
    """Runs roles.sql in the URL's database; without the owner's password where that one is who runs it."""
    parameters = {
        "parley.owner": owner,
        **({} if owner_password is None else {"parley.owner_password": owner_password}),
        "parley.api": api,
        "parley.api_password": api_password,
    }
    async with connected(admin_url) as connection:
        for name, value in parameters.items():
            await connection.execute("SELECT set_config($1, $2, false)", name, value)
        await connection.execute(ROLES_SQL.read_text())


def url_of(
    url: str, database: str, *, user: str | None = None, password: str | None = None
) -> str:
    """The same server, another database; as the same user where none is given."""
    parts = urlsplit(url)
    login, _, address = parts.netloc.rpartition("@")
    if user is not None:
        login = f"{quote(user, safe='')}:{quote(password or '', safe='')}"
    netloc = f"{login}@{address}" if login else address
    return parts._replace(netloc=netloc, path=f"/{database}").geturl()


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def until_one_waits(database: DatabaseUrls) -> None:
    """For a lock that another connection has."""
    async with connected(database.admin) as admin:
        while not await admin.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)
