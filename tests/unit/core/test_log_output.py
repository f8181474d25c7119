"""A reader who is slow, who reads nothing, or who has gone."""

import fcntl
import json
import os
import select
from collections.abc import Generator
from io import StringIO
from typing import NamedTuple

import pytest

from parley.core import log_output
from parley.core.log_output import LossyOutput, PromptOutput, QueuedOutput
from tests.counts import Counted

PATIENCE_SECONDS = 60
FULL = b"x"


class Pipe(NamedTuple):
    reader: int
    writer: int

    def fill(self) -> int:
        """Until it takes nothing; returns how many bytes that were."""
        os.set_blocking(self.writer, False)
        size = fcntl.fcntl(self.writer, fcntl.F_GETPIPE_SZ)
        os.write(self.writer, FULL * size)
        os.set_blocking(self.writer, True)
        return size

    def read(self, count: int) -> bytes:
        """So many bytes, which are to come."""
        got = b""
        while len(got) < count:
            assert select.select([self.reader], [], [], PATIENCE_SECONDS)[0]
            got += os.read(self.reader, count - len(got))
        return got


@pytest.fixture
def pipe() -> Generator[Pipe]:
    pipe = Pipe(*os.pipe())
    yield pipe
    for descriptor in pipe:
        try:
            os.close(descriptor)
        except OSError:  # a test has closed it
            assert pipe.reader == descriptor


def dropped(logged: StringIO) -> list[int]:
    return [json.loads(line)["lines"] for line in logged.getvalue().splitlines()]


@pytest.fixture(params=[PromptOutput, QueuedOutput])
def output(
    request: pytest.FixtureRequest, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> LossyOutput:
    monkeypatch.setattr(log_output, "LINES_MAX", 10)
    made: LossyOutput = request.param(pipe.writer)
    return made


class TestLossyOutput:
    def test_lines_come_in_their_order(self, output: LossyOutput, pipe: Pipe):
        for n in range(5):
            output.write(f"{n}\n")

        assert b"0\n1\n2\n3\n4\n" == pipe.read(10)

    def test_who_reads_nothing_makes_nobody_wait_and_hears_how_much_was_lost(
        self, output: LossyOutput, pipe: Pipe, logged: StringIO
    ):
        counted = Counted()
        held_back = pipe.fill()

        for _ in range(100):
            output.write("a line\n")
        lost = int(counted("parley_log_lines_dropped_total"))
        # The queue has some, and one is in the thread's hands.
        assert 100 - 11 <= lost <= 100
        assert [] == dropped(logged)

        pipe.read(held_back + (100 - lost) * len("a line\n"))
        output.write("again\n")

        assert b"again\n" == pipe.read(6)
        assert [lost] == dropped(logged)

    def test_who_has_gone_is_no_error(
        self, output: LossyOutput, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(log_output, "LAST_WORDS_SECONDS", PATIENCE_SECONDS)
        counted = Counted()
        os.close(pipe.reader)

        output.write("a line\n")
        if isinstance(output, QueuedOutput):
            output.close()

        assert 1 == counted("parley_log_lines_dropped_total")


class TestQueuedOutput:
    def test_a_line_longer_than_the_pipe_comes_whole(self, pipe: Pipe):
        output = QueuedOutput(pipe.writer)
        line = "y" * 300_000 + "\n"

        output.write(line)

        assert line.encode() == pipe.read(len(line))

    def test_it_waits_also_where_somebody_has_said_that_nobody_waits(
        self, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
    ):
        """The other end's file is shared, and so is what a parent that is Node.js sets on it."""
        monkeypatch.setattr(log_output, "LAST_WORDS_SECONDS", 0.01)
        counted = Counted()
        held_back = pipe.fill()
        os.set_blocking(pipe.writer, False)
        output = QueuedOutput(pipe.writer)
        output.write("a line\n")
        output.close()

        pipe.read(held_back)

        assert b"a line\n" == pipe.read(7)
        assert 0 == counted("parley_log_lines_dropped_total")

    def test_who_closes_it_waits_for_who_reads(self, pipe: Pipe):
        output = QueuedOutput(pipe.writer)
        output.write("last words\n")
        output.close()

        assert b"last words\n" == pipe.read(11)

    def test_who_closes_it_does_not_wait_for_ever(
        self, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(log_output, "LAST_WORDS_SECONDS", 0.01)
        held_back = pipe.fill()
        output = QueuedOutput(pipe.writer)
        output.write("last words\n")

        output.close()

        # Or its thread would count them as dropped, some time, in another test.
        assert pipe.read(held_back + 11).endswith(b"last words\n")
