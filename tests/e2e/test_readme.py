"""`make run`, as the README has it, on a fresh copy; the stack's turn is in tests/containers."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.processes import Server
from tests.readme import blocks, clone_into, first_reply, matches, run_steps


@pytest.fixture
def fresh_copy(tmp_path: Path) -> Path:
    return clone_into(tmp_path / "parley")


class TestReadme:
    def test_there_are_two_ways_to_start_it(self):
        starts = [block[0].command for block in blocks()[:2]]

        assert ["docker compose up --build --wait", "make run"] == starts

    @pytest.mark.timeout(600)
    def test_make_run_serves_and_every_line_prints_what_is_promised(
        self, fresh_copy: Path, tmp_path: Path
    ):
        with Server(fresh_copy, "bash", "-c", "make run", PYTHONDONTWRITEBYTECODE="1") as server:
            steps = first_reply()
            printed = run_steps(steps, tmp_path, server.port)
            pasted = re.search(r"^token=.*$", server.output, re.MULTILINE)
            assert pasted is not None
            for _ in range(2):
                reply = subprocess.run(
                    ["sh", "-c", pasted[0]], capture_output=True, text=True, check=True
                )
                assert "You said: Hello" in reply.stdout
            assert f"{server.url}/docs" in server.output

        for step, actual in zip(steps, printed, strict=True):
            assert matches(step.printed, actual), (step, actual)
