"""The API's operations, from its own description: whoever adds one has it tried."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.openapi_snapshot import SNAPSHOT

SPEC = json.loads(SNAPSHOT.read_text())
METHODS = ("get", "put", "post", "delete", "patch", "head", "trace")


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    spec: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def name(self) -> str:
        return str(self.spec["operationId"])

    @property
    def body_schema(self) -> dict[str, Any] | None:
        content = self._content.get("application/json")
        return resolved(content["schema"]) if content else None

    @property
    def takes_a_file(self) -> bool:
        return "multipart/form-data" in self._content

    @property
    def _content(self) -> dict[str, Any]:
        return self.spec.get("requestBody", {}).get("content", {})  # type: ignore[no-any-return]

    @property
    def body(self) -> dict[str, Any] | None:
        """The least that it takes."""
        schema = self.body_schema
        if schema is None:
            return None
        fields = schema["properties"]
        return {name: example(resolved(fields[name])) for name in schema.get("required", ())}

    def parameters(self, where: str) -> dict[str, dict[str, Any]]:
        return {
            parameter["name"]: parameter["schema"]
            for parameter in self.spec.get("parameters", ())
            if parameter["in"] == where
        }

    def ids(self) -> Iterator[tuple[str, str]]:
        """Where it takes what names a thing of somebody's, and how that is called."""
        for where in ("path", "query", "header", "cookie"):
            for name, schema in self.parameters(where).items():
                if where == "path" or names_a_thing(name, schema):
                    yield where, name
        for name, schema in (self.body_schema or {"properties": {}})["properties"].items():
            if names_a_thing(name, schema):
                yield "body", name


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = SPEC["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def names_a_thing(name: str, schema: dict[str, Any]) -> bool:
    is_named_so = (
        name.lower().replace("-", "_").endswith(("id", "ids", "cursor", "token", "after"))
    )
    return is_named_so or "uuid" in json.dumps(resolved(schema))


def example(schema: dict[str, Any]) -> object:
    if "examples" in schema:
        return schema["examples"][0]
    return "x" * max(1, schema.get("minLength", 1)) if schema.get("type") == "string" else {}


def naming(name: str, which: object, operation: Operation) -> dict[str, object]:
    """The member of a body of the operation that names it."""
    schema = (operation.body_schema or {})["properties"][name]
    return {name: [str(which)] if schema.get("type") == "array" else str(which)}


OPERATIONS = [
    Operation(method.upper(), path, spec)
    for path, item in SPEC["paths"].items()
    for method, spec in item.items()
]


def properties(schema: Any, seen: frozenset[str] = frozenset()) -> set[str]:
    """Every name that a value of this schema may have in it, at any depth."""
    if isinstance(schema, list):
        return set().union(*(properties(each, seen) for each in schema)) if schema else set()
    if not isinstance(schema, dict):
        return set()
    if (ref := schema.get("$ref")) is not None:
        return set() if ref in seen else properties(resolved(schema), seen | {ref})
    names = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return names.union(*(properties(value, seen) for value in schema.values()))
