"""What a schema refuses, and why."""

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError


def refusal(
    schema: type[BaseModel] | TypeAdapter[Any], value: object
) -> set[tuple[str, tuple[int | str, ...]]]:
    """The code and the place of each fault."""
    adapter = schema if isinstance(schema, TypeAdapter) else TypeAdapter(schema)
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python(value)
    return {(error["type"], error["loc"]) for error in caught.value.errors(include_input=False)}
