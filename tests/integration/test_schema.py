"""Schemathesis asks the app what its own OpenAPI says it may be asked, and what it must not."""

import asyncio

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from parley.core.ids import new_id
from parley.core.security.tokens import LocalTokens
from parley.core.settings import Settings
from parley.crud.memory.store import MemoryStore
from parley.main import create_app
from tests.conftest import SECRET
from tests.factories import make_account, session_of

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]


# Made at import: schemathesis turns each operation into a test while pytest collects.
app = create_app(
    Settings(_env_file=None, auth_secret=SECRET, log_level="ERROR"), store=MemoryStore()
)
schema = schemathesis.openapi.from_asgi("/openapi.json", app)
USER_ID = str(new_id())
TOKEN = LocalTokens(SECRET, lifetime_seconds=3600).issue(USER_ID, session_of(USER_ID))


@pytest.fixture(autouse=True)
def session(empty_memory_store: None) -> None:  # noqa: ARG001 - first
    asyncio.run(make_account(MemoryStore(), USER_ID))


# Registering costs a fifth of a second each, and others end the session: they have tables of their
# own in test_accounts.
@schema.exclude(path_regex="/auth/(register|login|password|me)$").parametrize()
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_request_breaks_it_and_every_answer_is_as_described(case: Case):
    case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS)
