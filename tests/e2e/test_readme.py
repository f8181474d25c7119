"""The README's commands, run as written on a fresh copy, and what it promises of them."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.processes import Server, matches

ROOT = Path(__file__).parents[2]


def console_blocks() -> list[list[tuple[str, str]]]:
    """Of each block, its commands with what the README says they print."""
    text = (ROOT / "README.md").read_text()
    blocks = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        steps = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
        commands = []
        for step in steps:
            command, _, printed = re.sub(r"\\\n\s*", " ", step).partition("\n")
            commands.append((command, printed.strip()))
        blocks.append(commands)
    return blocks


@pytest.fixture
def fresh_copy(tmp_path: Path) -> Path:
    """What a clone would hold, and nothing that was made here."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, tmp_path / "parley" / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode)
    return tmp_path / "parley"


class TestReadme:
    def test_the_two_commands_are_these(self):
        commands = [command for block in console_blocks() for command, _ in block]

        assert "make run" == commands[0]
        assert "make test" == commands[-1]
        # CI calls the second one: here it would call itself.
        assert 'make "$target"' in (ROOT / ".ci/run").read_text()

    @pytest.mark.timeout(300)
    def test_make_run_serves_and_every_line_prints_what_is_promised(self, fresh_copy: Path):
        (run, _), *rest = [step for block in console_blocks()[:-1] for step in block]
        with Server(fresh_copy, "bash", "-c", run, PYTHONDONTWRITEBYTECODE="1") as server:
            script = "\n".join(f"{command}\necho; echo ===" for command, _ in rest)
            done = subprocess.run(
                ["bash", "-c", script.replace("localhost:8000", f"localhost:{server.port}")],
                cwd=fresh_copy, capture_output=True, text=True, check=True,
            )  # fmt: skip
            pasted = re.search(r"^token=.*$", server.output, re.MULTILINE)
            assert pasted is not None
            for _ in range(2):
                reply = subprocess.run(
                    ["sh", "-c", pasted[0]], capture_output=True, text=True, check=True
                )
                assert "You said: Hello" in reply.stdout
            assert f"{server.url}/docs" in server.output

        printed = [part.strip() for part in done.stdout.split("===\n")]
        for (command, promised), actual in zip(rest, printed, strict=False):
            assert matches(promised, actual), (command, actual)
