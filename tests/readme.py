"""A page's console blocks, as commands with what they are promised to print."""

import re
import secrets
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Step(NamedTuple):
    command: str
    printed: str


def clone_into(folder: Path) -> Path:
    """What a clone would hold, and nothing that was made here."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode)
    return folder


def blocks(page: str = "README.md") -> list[list[Step]]:
    text = (ROOT / page).read_text()
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        steps = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
        pairs = [re.sub(r"\\\n\s*", " ", step).partition("\n") for step in steps]
        found.append([Step(command, printed.strip()) for command, _, printed in pairs])
    return found


def first_reply() -> list[Step]:
    """What a person types once it runs: behind the two ways of starting it."""
    _, _, *rest = blocks()
    return [step for block in rest for step in block]


def run_steps(steps: list[Step], folder: Path, port: int) -> list[str]:
    """One shell for all, at another port and for a new Ann; what each one printed."""
    script = "\n".join(f"{step.command}\necho; echo ===" for step in steps)
    script = script.replace("localhost:8000", f"localhost:{port}")
    done = subprocess.run(
        ["bash", "-c", script.replace("ann@", f"ann-{secrets.token_hex(4)}@")],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [part.strip() for part in done.stdout.split("===\n")][: len(steps)]


def matches(expected: str, actual: str) -> bool:
    """`…` in what is expected stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return re.fullmatch(pattern, actual, re.DOTALL) is not None
