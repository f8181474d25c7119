"""Better Auth's table of sessions, and rows in it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from tests.databases import DatabaseUrls, connected

SECRET = "Better Auth's secret in the tests, of 32 bytes and more"
# As services/auth makes it: not FORCED, for Better Auth owns it and reads every row.
TABLE = """
CREATE SCHEMA better_auth;
CREATE TABLE better_auth.session (
    id text PRIMARY KEY,
    "expiresAt" {moment} NOT NULL,
    token text NOT NULL UNIQUE,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "ipAddress" text,
    "userId" {user_id} NOT NULL
);
ALTER TABLE better_auth.session ENABLE ROW LEVEL SECURITY;
CREATE POLICY parley ON better_auth.session FOR SELECT TO {role}
    USING (token = current_setting('app.lookup', true));
GRANT USAGE ON SCHEMA better_auth TO {role};
GRANT SELECT (token, "expiresAt", "userId") ON better_auth.session TO {role};
"""


@dataclass(frozen=True)
class SessionTable:
    urls: DatabaseUrls
    name: str = "better_auth.session"

    async def create(self, *, moment: str = "timestamptz", user_id: str = "text") -> None:
        role = urlsplit(self.urls.api).username
        async with connected(self.urls.admin) as admin:
            await admin.execute(TABLE.format(moment=moment, user_id=user_id, role=role))

    async def sign_in(
        self, token: str, user_id: Any, *, lasts: timedelta = timedelta(hours=1)
    ) -> None:
        async with connected(self.urls.admin) as admin:
            await admin.execute("SET timezone = 'UTC'")
            await admin.execute(
                'INSERT INTO better_auth.session (id, token, "userId", "expiresAt")'
                " VALUES (gen_random_uuid(), $1, $2, now() + $3)",
                token,
                user_id,
                lasts,
            )

    async def sign_out(self, token: str) -> None:
        async with connected(self.urls.admin) as admin:
            await admin.execute("DELETE FROM better_auth.session WHERE token = $1", token)
