"""What every schema shares: frozen entities, strict bodies, and text that every store can keep."""

import json
import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

JSON_DEPTH_MAX = 32
JSON_INTEGER_MAX = 2**53 - 1
METADATA_MAX_CHARACTERS = 16_384


class Entity(BaseModel):
    """What travels between the floors, and out on the wire. Never changed, only replaced."""

    model_config = ConfigDict(
        frozen=True, from_attributes=True, json_schema_serialization_defaults_required=True
    )


def absent(value: object) -> bool:
    """For `exclude_if`: a member that does not apply is left out, rather than null."""
    return value is None


class RequestBody(BaseModel):
    """What a client sends. An unknown field is refused, so that nobody can set what is not theirs."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def storable(text: str) -> str:
    """The same text, refused where a store could not keep it."""
    # PostgreSQL keeps no NUL, UTF-8 no lone surrogate; SQLite and a dict would take either.
    if "\x00" in text:
        raise PydanticCustomError("nul_character", "Text cannot contain the NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise PydanticCustomError("lone_surrogate", "Text cannot contain a lone surrogate")
    return text


def _storable_json(value: dict[str, Any]) -> dict[str, Any]:
    _check_json(value, depth=1)
    return value


def _check_json(value: Any, *, depth: int) -> None:
    match value:
        case dict() | list() if depth > JSON_DEPTH_MAX:
            raise PydanticCustomError("json_too_deep", "JSON is nested too deeply")
        case dict():
            for key, item in value.items():
                storable(key)
                _check_json(item, depth=depth + 1)
        case list():
            for item in value:
                _check_json(item, depth=depth + 1)
        case str():
            storable(value)
        case float() if not math.isfinite(value):
            raise PydanticCustomError("json_not_finite", "Numbers must be finite")
        case int() if abs(value) > JSON_INTEGER_MAX:
            raise PydanticCustomError("json_integer_too_large", "Integers must fit in 53 bits")
        case _:
            pass


def _bounded(value: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    if size > METADATA_MAX_CHARACTERS:
        raise PydanticCustomError(
            "json_too_large",
            "Must have at most {limit} characters",
            {"limit": METADATA_MAX_CHARACTERS},
        )
    return value


STORABLE = AfterValidator(storable)
"""
Text that all three stores keep exactly as it came.

After the bounds in an Annotated: those behind a validator speak of items, not of characters.
"""

SafeJson = Annotated[dict[str, Any], AfterValidator(_storable_json), AfterValidator(_bounded)]
"""A JSON object that all three stores keep exactly as it came, of at most 16,384 characters."""
