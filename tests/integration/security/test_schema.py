"""
Schemathesis asks the server what its own OpenAPI says it may be asked, and what it must not.

On both databases, with a token and without; an operation on accounts has one of its own, since some
end it. Event streams are not asked for: an answer that is no one document has tests of its own.
"""

import asyncio
from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from parley.core.ids import new_id
from tests.openapi_snapshot import SNAPSHOT
from tests.processes import SLOW_SERVER, Server, account

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
BOUNDED = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
schema = schemathesis.openapi.from_path(str(SNAPSHOT))


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[str]:
    folder = tmp_path_factory.mktemp("schema")
    # A busy machine's database is none that is away; and the model has nothing to wait for.
    variables = {
        "LOG_LEVEL": "WARNING", "RATE_LIMIT_AUTH": "999999/second", "TEST_PROBE_SECONDS": "30"
    }  # fmt: skip
    (folder / "go").touch()
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        path = folder / "parley.db"
        path.write_bytes(template.read_bytes())
        with Server(folder, *SLOW_SERVER, DATABASE_URL=f"sqlite:///{path}", **variables) as server:
            yield server.url
        return
    databases = request.getfixturevalue("databases")
    postgres = asyncio.run(databases.clone())
    with Server(folder, *SLOW_SERVER, DATABASE_URL=postgres.api, **variables) as server:
        yield server.url
    asyncio.run(databases.drop(postgres))


@cache
def token_for(url: str, user: str) -> str:
    """Of an account that is `user`'s alone."""
    with account(url, f"{user}-{new_id()}@example.com") as client:
        return str(client.headers["Authorization"])


def ask(case: Case, url: str, headers: dict[str, str]) -> None:
    if isinstance(case.body, dict):
        case.body.pop("stream", None)
    case.call_and_validate(base_url=url, headers=headers, checks=CHECKS)


@schema.parametrize()
@settings(BOUNDED, max_examples=12)
def test_with_a_token_every_answer_is_as_described(case: Case, url: str):
    is_of_accounts = "accounts" in case.operation.tags
    user = case.operation.definition.raw["operationId"] if is_of_accounts else "anybody"
    ask(case, url, {"Authorization": token_for(url, user)})


@schema.parametrize()
@settings(BOUNDED, max_examples=5)
def test_without_a_token_every_answer_is_as_described(case: Case, url: str):
    ask(case, url, {})
