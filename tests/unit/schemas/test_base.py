import json
import math
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from parley.schemas.base import (
    JSON_DEPTH_MAX,
    JSON_INTEGER_MAX,
    METADATA_MAX_CHARACTERS,
    STORABLE,
    Entity,
    RequestBody,
    SafeJson,
)

KEPT = [
    "",
    " ",
    "\t\r\n",
    "\x01\x1b[31m\x7f\x85",
    "\u2028\u2029\u200b\u202e\ufeff\ufffe\uffff",
    "e\u0301",
    "\u00e9",
    "a" + "\u0301" * 1000,
    "\U0001f511\U0001d4b3\U0010ffff",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
]
NOT_KEPT = [
    ("\0", "nul_character"),
    ("a\0b", "nul_character"),
    ("\ud800", "lone_surrogate"),
    ("a\udfffb", "lone_surrogate"),
    ("\ud83d\udd11", "lone_surrogate"),
]
TEXT: TypeAdapter[str] = TypeAdapter(Annotated[str, Field(strict=True), STORABLE])
OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(SafeJson)


def codes(adapter: TypeAdapter[Any], value: object) -> set[str]:
    """Why it is refused."""
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python(value)
    return {error["type"] for error in caught.value.errors(include_input=False)}


def nested(levels: int, innermost: object, *, by: type = dict) -> dict[str, Any]:
    """So many containers, one in the other, the outermost an object."""
    value: Any = innermost
    for _ in range(levels - 1):
        value = {"a": value} if by is dict else [value]
    return {"a": value}


class TestStorable:
    @pytest.mark.parametrize("text", KEPT)
    def test_text_is_kept_exactly(self, text: str):
        assert text == TEXT.validate_python(text)

    @pytest.mark.parametrize(("text", "code"), NOT_KEPT)
    def test_what_a_store_would_not_keep_is_refused(self, text: str, code: str):
        # Pydantic may find out first that a surrogate is no text.
        assert codes(TEXT, text) <= {code, "string_unicode"}

    @pytest.mark.parametrize("value", [7, 1.5, True, None, b"text", ["text"], {}])
    def test_what_is_no_text_is_not_made_one(self, value: object):
        assert {"string_type"} == codes(TEXT, value)


class TestSafeJson:
    @pytest.mark.parametrize("text", KEPT)
    def test_text_is_kept_exactly_in_a_value_and_in_a_key(self, text: str):
        value = {text: text, "list": [text, {text: None}]}

        assert value == OBJECT.validate_python(value)
        assert json.dumps(value) == json.dumps(OBJECT.validate_python(value))

    @pytest.mark.parametrize(("text", "code"), NOT_KEPT)
    def test_what_a_store_would_not_keep_is_refused_anywhere(self, text: str, code: str):
        for value in (
            {"a": text},
            {text: 1},
            {"a": [1, text]},
            {"a": {text: 1}},
            {"a": [{"b": {"c": text}}]},
        ):
            assert codes(OBJECT, value) <= {code, "string_unicode"}

    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    def test_a_number_that_is_none_is_refused(self, number: float):
        assert {"json_not_finite"} == codes(OBJECT, {"a": number})
        assert {"json_not_finite"} == codes(OBJECT, {"a": [{"b": [number]}]})

    def test_1e999_in_json_is_refused(self):
        assert {"json_not_finite"} == codes(OBJECT, json.loads('{"a": 1e999}'))

    @pytest.mark.parametrize("number", [0, -0.0, 1.0, 1e308, 5e-324, True, False, None])
    def test_other_numbers_are_kept_exactly(self, number: object):
        kept = OBJECT.validate_python({"a": number})["a"]

        assert repr(number) == repr(kept)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_an_integer_has_53_bits_and_no_more(self, sign: int):
        assert 2**53 - 1 == JSON_INTEGER_MAX
        assert {"a": sign * JSON_INTEGER_MAX} == OBJECT.validate_python(
            {"a": sign * JSON_INTEGER_MAX}
        )
        for integer in (JSON_INTEGER_MAX + 1, 2**63, 10**400):
            assert {"json_integer_too_large"} == codes(OBJECT, {"a": sign * integer})

    @pytest.mark.parametrize("innermost", [{}, {"a": 1}, [], [None], ["text"]])
    @pytest.mark.parametrize("by", [dict, list])
    def test_32_levels_are_kept_and_33_are_not(self, innermost: object, by: type):
        """Levels are objects and lists: what is in the innermost is no level more."""
        deep = nested(JSON_DEPTH_MAX - 1, innermost, by=by)

        assert 32 == JSON_DEPTH_MAX
        assert deep == OBJECT.validate_python(deep)
        assert {"json_too_deep"} == codes(OBJECT, nested(JSON_DEPTH_MAX, innermost, by=by))

    def test_any_depth_is_refused_in_good_order(self):
        assert {"json_too_deep"} == codes(OBJECT, nested(100_000, 1))

    @pytest.mark.parametrize("character", ["x", "é", "\U0001f511"])
    def test_it_is_as_large_as_told_in_characters(self, character: str):
        text = character * (METADATA_MAX_CHARACTERS - len('{"a":""}'))

        assert 16_384 == METADATA_MAX_CHARACTERS
        assert {"a": text} == OBJECT.validate_python({"a": text})
        assert {"json_too_large"} == codes(OBJECT, {"a": text + character})

    @pytest.mark.parametrize("value", [[], "{}", 7, None, [["a", 1]]])
    def test_what_is_no_object_is_refused(self, value: object):
        assert {"dict_type"} == codes(OBJECT, value)

    def test_the_order_of_keys_is_kept(self):
        value = {"b": 1, "a": 2, "c": {"z": 1, "y": 2}}

        assert list(value) == list(OBJECT.validate_python(value))


class Words(RequestBody):
    text: Annotated[str, STORABLE] = "hello"


class Thing(Entity):
    text: str


class TestRequestBody:
    def test_a_field_that_there_is_not_is_refused(self):
        assert {"extra_forbidden"} == codes(TypeAdapter(Words), {"text": "x", "user_id": "bob"})

    def test_it_does_not_change(self):
        with pytest.raises(ValidationError, match="frozen"):
            Words().text = "other"  # type: ignore[misc]


class TestEntity:
    def test_it_does_not_change(self):
        with pytest.raises(ValidationError, match="frozen"):
            Thing(text="x").text = "other"  # type: ignore[misc]

    def test_it_is_made_of_whatever_has_its_attributes(self):
        class Row:
            text = "hello"

        assert Thing(text="hello") == Thing.model_validate(Row())
