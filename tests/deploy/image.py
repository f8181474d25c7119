"""What the image has, read from its Dockerfile."""

import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple, Self


class Image(NamedTuple):
    user: str
    environment: dict[str, str]
    command: list[str]

    @classmethod
    def of(cls, dockerfile: Path) -> Self:
        text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
        said: dict[str, list[str]] = {}
        for line in re.sub(r"\\\n", " ", text).splitlines():
            instruction, _, value = line.partition(" ")
            said.setdefault(instruction, []).append(value.strip())
        return cls(
            user=said["USER"][-1],
            environment=dict(
                pair.split("=", 1) for line in said["ENV"] for pair in shlex.split(line)
            ),
            command=[*json.loads(said["ENTRYPOINT"][-1]), *json.loads(said["CMD"][-1])],
        )
