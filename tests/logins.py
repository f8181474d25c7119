"""A login of the API's that a test may give more power than the API's has."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.databases import DatabaseUrls, connected, url_of


@dataclass(frozen=True)
class Login:
    """With the rights of the API's role; `names` are for what is said of it."""

    url: str = field(repr=False)
    names: dict[str, str]
    admin_url: str = field(repr=False)

    async def do(self, statements: str) -> None:
        """As an administrator."""
        async with connected(self.admin_url) as admin:
            await admin.execute(self.said(statements))

    def said(self, words: str) -> str:
        return words.format(**self.names)


@asynccontextmanager
async def login_beside(postgres: DatabaseUrls) -> AsyncGenerator[Login]:
    role = f"login_{secrets.token_hex(4)}"
    async with connected(postgres.owner) as owner, connected(postgres.api) as api:
        names = {
            "role": role,
            "database": postgres.name,
            "owner": await owner.fetchval("SELECT current_user"),
            "api": await api.fetchval("SELECT current_user"),
        }
    url = url_of(postgres.admin, postgres.name, user=role, password="known")
    login = Login(url, names, postgres.admin)
    await login.do("CREATE ROLE {role} LOGIN PASSWORD 'known' IN ROLE {api}")
    yield login
    await login.do("REASSIGN OWNED BY {role} TO {owner}; DROP OWNED BY {role}; DROP ROLE {role}")
