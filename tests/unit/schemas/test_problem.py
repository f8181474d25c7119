import json
from typing import Any

import pytest

from parley.core.errors import ConversationNotFound
from parley.core.ids import new_id
from parley.schemas.problem import Fault, Problem

MEMBERS = {"type", "title", "status", "detail", "code"}
OPTIONAL: dict[str, Any] = {
    "instance": "/api/v1/me/chat",
    "request_id": "0193497d8a7d7c0bb4f6d1f0a4a7ce55",
    "errors": [{"location": ["body", "message"], "message": "Field required", "code": "missing"}],
    "turn_id": str(new_id()),
    "conversation_id": str(new_id()),
}


def problem(**optional: Any) -> dict[str, Any]:
    """As a client reads it."""
    members = ConversationNotFound().members | optional
    return json.loads(Problem.model_validate(members).model_dump_json())


class TestProblem:
    def test_what_does_not_apply_is_left_out(self):
        assert ConversationNotFound().members == problem()
        assert MEMBERS == set(problem())

    def test_what_is_null_is_left_out(self):
        assert MEMBERS == set(problem(**dict.fromkeys(OPTIONAL)))

    @pytest.mark.parametrize("name", OPTIONAL)
    def test_what_applies_is_there(self, name: str):
        made = problem(**{name: OPTIONAL[name]})

        assert MEMBERS | {name} == set(made)
        assert OPTIONAL[name] == made[name]

    def test_a_list_without_faults_is_there(self):
        assert [] == problem(errors=[])["errors"]

    def test_it_goes_through_a_store_and_back(self):
        kept = Problem.model_validate(ConversationNotFound().members | OPTIONAL)

        assert kept == Problem.model_validate_json(kept.model_dump_json())


class TestFault:
    def test_it_has_no_place_for_the_value(self):
        assert {"location", "message", "code"} == set(Fault.model_fields)
