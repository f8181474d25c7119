"""Every body that a client may send."""

from typing import Any

import pytest

from parley.core.ids import new_id
from parley.schemas.accounts import Login, Registration
from parley.schemas.base import RequestBody
from parley.schemas.conversations import UNTITLED, ConversationDraft, ConversationPatch
from parley.schemas.turns import ChatRequest
from tests.unit.schemas.bodies import refusal

GOOD: dict[type[RequestBody], dict[str, Any]] = {
    Registration: {"email": "ann@x", "password": "correct horse battery staple"},
    Login: {"email": "ann@x", "password": "correct horse battery staple"},
    ChatRequest: {"message": "hello"},
    ConversationDraft: {"title": "Holiday plans"},
    ConversationPatch: {"title": "Holiday plans"},
}
NOT_THE_CLIENTS = ["user_id", "id", "role", "position", "length", "created_at", "is_admin", ""]


@pytest.mark.parametrize("body", GOOD)
class TestEveryBody:
    def test_a_good_one_is_taken(self, body: type[RequestBody]):
        assert body.model_validate(GOOD[body])

    @pytest.mark.parametrize("name", NOT_THE_CLIENTS)
    def test_a_field_that_it_does_not_have_is_refused(self, name: str, body: type[RequestBody]):
        assert {("extra_forbidden", (name,))} == refusal(body, GOOD[body] | {name: "x"})

    @pytest.mark.parametrize("value", [[], "x", 7, None])
    def test_what_is_no_object_is_refused(self, value: object, body: type[RequestBody]):
        ((code, _),) = refusal(body, value)

        assert code in {"model_type", "model_attributes_type"}

    @pytest.mark.parametrize("character", ["\0", "\ud800"])
    def test_no_text_in_it_has_what_a_store_would_not_keep(
        self, character: str, body: type[RequestBody]
    ):
        for name, value in GOOD[body].items():
            ((_, location),) = refusal(body, GOOD[body] | {name: value + character})
            assert (name,) == location


class TestChatRequest:
    @pytest.mark.parametrize("message", ["x", " ", "x" * 32_000, "\U0001f511" * 32_000])
    def test_a_message_has_1_to_32000_characters(self, message: str):
        assert message == ChatRequest.model_validate({"message": message}).message

    @pytest.mark.parametrize(
        ("message", "code"), [("", "string_too_short"), ("x" * 32_001, "string_too_long")]
    )
    def test_no_fewer_and_no_more(self, message: str, code: str):
        assert {(code, ("message",))} == refusal(ChatRequest, {"message": message})

    def test_without_a_conversation_one_is_begun_and_nothing_streams(self):
        body = ChatRequest.model_validate({"message": "hello"})

        assert (None, False) == (body.conversation_id, body.stream)

    def test_a_conversation_is_named_by_its_id(self):
        conversation_id = new_id()
        body = {"message": "hello", "conversation_id": str(conversation_id)}

        assert conversation_id == ChatRequest.model_validate(body).conversation_id

    @pytest.mark.parametrize("value", ["", "x", "01934a7e", 7, [], "me"])
    def test_by_nothing_else(self, value: object):
        ((_, location),) = refusal(ChatRequest, {"message": "x", "conversation_id": value})

        assert ("conversation_id",) == location

    @pytest.mark.parametrize("value", ["true", 1, 0, None, "yes"])
    def test_whether_to_stream_is_true_or_false(self, value: object):
        assert {("bool_type", ("stream",))} == refusal(
            ChatRequest, {"message": "x", "stream": value}
        )


@pytest.mark.parametrize("body", [ConversationDraft, ConversationPatch])
class TestConversations:
    def test_nothing_need_be_said(self, body: type[ConversationDraft]):
        draft = body.model_validate({})

        assert (UNTITLED, None, {}) == (draft.title, draft.instructions, draft.metadata)
        assert set() == draft.model_fields_set

    def test_what_was_said_is_told_from_what_was_not(self, body: type[ConversationDraft]):
        draft = body.model_validate({"instructions": None})

        assert {"instructions"} == draft.model_fields_set

    @pytest.mark.parametrize(
        "values",
        [
            {"title": "x"},
            {"title": "\U0001f511" * 200},
            {"instructions": ""},
            {"instructions": "x" * 32_000},
            {"metadata": {"a": [1, None, {"b": "c"}]}},
        ],
    )
    def test_within_the_bounds_it_is_kept(
        self, values: dict[str, Any], body: type[ConversationDraft]
    ):
        assert values == body.model_validate(values).model_dump(exclude_unset=True)

    @pytest.mark.parametrize(
        ("name", "value", "code"),
        [
            ("title", "", "string_too_short"),
            ("title", "x" * 201, "string_too_long"),
            ("title", None, "string_type"),
            ("instructions", "x" * 32_001, "string_too_long"),
            ("metadata", None, "dict_type"),
            ("metadata", [], "dict_type"),
            ("metadata", {"a": "x" * 16_384}, "json_too_large"),
        ],
    )
    def test_beyond_them_it_is_refused(
        self, name: str, value: object, code: str, body: type[ConversationDraft]
    ):
        assert {(code, (name,))} == refusal(body, {name: value})
