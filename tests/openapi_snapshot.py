"""docs/openapi.json: the API as clients see it, so that a change of it is seen in review."""

import json
from pathlib import Path
from typing import Any

from parley.core.settings import Settings
from parley.crud.memory.store import MemoryStore
from parley.main import create_app

SNAPSHOT = Path(__file__).parents[1] / "docs/openapi.json"


def current() -> dict[str, Any]:
    return create_app(Settings(auth_secret="x"), store=MemoryStore()).openapi()


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(current(), indent=2, ensure_ascii=False) + "\n")
