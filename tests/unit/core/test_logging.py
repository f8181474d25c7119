import asyncio
import gc
import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, NoReturn

import pytest
import structlog
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from parley.core.logging import configure_logging, frames_of, log_what_nobody_catches

CANARY = "canary-4711"
NASTY = f"a\r\nb\tc \x1b[31m\u2028\u2029\x85\x00 {CANARY} \U0001f511"


@pytest.fixture(autouse=True)
def as_it_was() -> Generator[None]:
    root, structured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**structured)


Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What was logged since the last call, as JSON."""

    def read() -> list[dict[str, Any]]:
        captured = capsys.readouterr()
        assert "" == captured.out
        assert captured.err.isascii()
        assert captured.err == "" or captured.err.endswith("\n")
        return [json.loads(line) for line in captured.err.split("\n")[:-1]]

    return read


def raise_it(error: Exception, cause: BaseException | None = None) -> NoReturn:
    raise error from cause


def caught(error: Exception, cause: BaseException | None = None) -> Exception:
    with pytest.raises(type(error)) as info:
        raise_it(error, cause)
    return info.value


class TestFramesOf:
    def test_it_says_where_and_of_which_type(self):
        found = frames_of(caught(KeyError(CANARY)))

        assert "KeyError" == found["exception"]
        assert ["caught", "raise_it"] == [frame.split()[-1] for frame in found["frames"]]
        assert all(re.match(rf"{re.escape(__file__)}:\d+ ", frame) for frame in found["frames"])

    def test_it_has_nothing_of_the_message(self):
        cause = caught(ValueError(CANARY))
        error = caught(RuntimeError(CANARY, {"said": CANARY}), cause)
        error.add_note(CANARY)

        assert CANARY not in repr(frames_of(error))

    def test_it_names_every_cause(self):
        error = caught(RuntimeError(), caught(ValueError(), KeyError()))

        assert "RuntimeError from ValueError from KeyError" == frames_of(error)["exception"]

    def test_it_names_what_was_being_handled(self):
        error = RuntimeError()
        error.__context__ = ValueError()

        assert "RuntimeError from ValueError" == frames_of(error)["exception"]

    def test_causes_that_go_round_end(self):
        first, second, third = RuntimeError(), ValueError(), KeyError()
        first.__cause__, second.__cause__, third.__cause__ = second, third, second

        assert "RuntimeError from ValueError from KeyError" == frames_of(first)["exception"]

    def test_an_error_that_caused_itself_ends(self):
        error = RuntimeError()
        error.__cause__ = error

        assert "RuntimeError" == frames_of(error)["exception"]

    def test_one_that_was_never_raised_has_no_frames(self):
        assert {"exception": "KeyError", "frames": []} == frames_of(KeyError(CANARY))

    def test_a_group_does_not_quote_what_is_in_it(self):
        group = ExceptionGroup(CANARY, [ValueError(CANARY)])

        assert CANARY not in repr(frames_of(caught(group)))


class TestJson:
    def test_an_event_is_one_line_of_ascii(self, lines: Lines):
        configure_logging("INFO", "json")
        structlog.get_logger("ours").info(NASTY, words=NASTY, **{NASTY: 1})

        (line,) = lines()
        assert (NASTY, NASTY, 1) == (line["event"], line["words"], line[NASTY])

    def test_a_librarys_line_is_one_line_of_ascii(self, lines: Lines):
        configure_logging("INFO", "json")
        logging.getLogger("theirs").warning("said %s", NASTY)

        (line,) = lines()
        assert f"said {NASTY}" == line["event"]

    @pytest.mark.parametrize(
        "logger", [structlog.get_logger("parley.x"), logging.getLogger("parley.x")]
    )
    def test_a_line_says_when_where_and_how_bad(self, logger: Any, lines: Lines):
        configure_logging("INFO", "json")
        logger.warning("started")

        (line,) = lines()
        assert {"event": "started", "level": "warning", "logger": "parley.x"} == {
            name: line[name] for name in ("event", "level", "logger")
        }
        assert line["timestamp"].endswith("Z")
        assert {"event", "level", "logger", "timestamp"} == set(line)

    def test_what_is_bound_to_the_context_is_on_every_line(self, lines: Lines):
        configure_logging("INFO", "json")
        with structlog.contextvars.bound_contextvars(request_id="r1"):
            structlog.get_logger("ours").info("started")
            logging.getLogger("theirs").warning("started")

        assert ["r1", "r1"] == [line["request_id"] for line in lines()]

    def test_what_is_below_the_level_is_not_logged(self, lines: Lines):
        configure_logging("INFO", "json")
        structlog.get_logger("ours").debug("started")
        logging.getLogger("theirs").debug("started")

        assert [] == lines()

    @pytest.mark.parametrize(
        "exc_info",
        [
            caught(ValueError(CANARY), KeyError(CANARY)),
            (ValueError, ValueError(CANARY), None),
        ],
        ids=["an error", "a tuple"],
    )
    @pytest.mark.parametrize("logger", [structlog.get_logger("ours"), logging.getLogger("theirs")])
    def test_an_errors_message_is_lost(self, logger: Any, exc_info: Any, lines: Lines):
        configure_logging("INFO", "json")
        logger.error("failed", exc_info=exc_info)

        (line,) = lines()
        assert line["exception"].startswith("ValueError")
        assert CANARY not in repr(line)

    @pytest.mark.parametrize("logger", [structlog.get_logger("ours"), logging.getLogger("theirs")])
    def test_the_message_of_the_one_being_handled_is_lost(self, logger: Any, lines: Lines):
        configure_logging("INFO", "json")
        try:
            raise_it(ValueError(CANARY))
        except ValueError:
            logger.exception("failed")

        (line,) = lines()
        assert ("failed", "ValueError") == (line["event"], line["exception"])
        assert 2 == len(line["frames"])
        assert CANARY not in repr(line)

    def test_no_error_is_no_exception(self, lines: Lines):
        configure_logging("INFO", "json")
        logging.getLogger("theirs").error("failed", exc_info=True)  # noqa: LOG014 - as some do

        (line,) = lines()
        assert "exception" not in line

    @pytest.mark.parametrize("name", ["uvicorn.access", "sqlalchemy.engine", "aiosqlite"])
    def test_who_talks_of_every_request_or_statement_is_not_heard(self, name: str, lines: Lines):
        configure_logging("INFO", "json")
        logging.getLogger(name).info("SELECT %s", CANARY)

        assert [] == lines()

    def test_nor_is_what_a_client_did_wrong(self, lines: Lines):
        configure_logging("INFO", "json")
        with suppress(FormParserError):
            MultipartParser(b"x").write(b"no form")

        assert [] == lines()

    def test_what_others_say_of_their_insides_is_not_heard_at_any_level(self, lines: Lines):
        """As the client of OpenAI does: at DEBUG it logs what it sends."""
        configure_logging("DEBUG", "json")
        logging.getLogger("theirs").debug("I send %s", CANARY)
        logging.getLogger("parley.x").debug("ours")

        assert ["ours"] == [line["event"] for line in lines()]

    async def test_asyncio_does_not_quote_the_error_of_a_task_or_the_arguments_of_a_call(
        self, lines: Lines
    ):
        configure_logging("INFO", "json")
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def fail(said: str) -> None:
            ended.set()
            raise_it(ValueError(said))

        async def fail_too() -> None:
            fail(CANARY)

        loop.call_soon(fail, CANARY)
        await ended.wait()
        task = asyncio.create_task(fail_too())
        await asyncio.wait([task])
        del task
        gc.collect()

        first, second = lines()
        assert first["event"].startswith("Exception in callback ")
        assert "Task exception was never retrieved" == second["event"]
        assert ["ValueError", "ValueError"] == [first["exception"], second["exception"]]
        assert CANARY not in repr([first, second])

    @pytest.mark.parametrize("name", ["uvicorn", "uvicorn.error"])
    def test_the_server_goes_through_the_same_pipe_once(self, name: str, lines: Lines):
        configure_logging("INFO", "json")
        logging.getLogger(name).info("started")

        assert ["started"] == [line["event"] for line in lines()]


class TestUncaught:
    """What Python would print by itself, with the message."""

    @pytest.fixture(autouse=True)
    def hooks(self, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
        for module, hook in (
            (sys, "excepthook"),
            (sys, "unraisablehook"),
            (threading, "excepthook"),
            (logging, "raiseExceptions"),
        ):
            monkeypatch.setattr(module, hook, getattr(module, hook))
        yield
        logging.captureWarnings(capture=False)

    def test_of_a_thread(self, lines: Lines):
        listen()
        thread = threading.Thread(target=raise_it, args=[ValueError(CANARY)])
        thread.start()
        thread.join()

        assert_uncaught(lines)

    def test_where_nobody_could_catch_it(self, lines: Lines):
        class Left:
            def __del__(self) -> None:
                raise_it(ValueError(CANARY))

        listen()
        Left()
        gc.collect()

        assert_uncaught(lines)

    def test_of_the_program_itself(self, lines: Lines):
        listen()
        error = caught(ValueError(CANARY))
        sys.excepthook(type(error), error, error.__traceback__)

        assert_uncaught(lines)

    def test_a_warning_says_of_which_kind_it_is_and_where(self, lines: Lines):
        """Pydantic's say which value they warn of."""
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            listen()
            warnings.warn(f"got {CANARY}\nand {CANARY}", UserWarning, stacklevel=1)
            logging.captureWarnings(capture=False)

        (line,) = lines()
        assert re.fullmatch(rf"{re.escape(__file__)}:\d+: UserWarning", line["event"])
        assert CANARY not in repr(line)

    def test_of_a_line_that_cannot_be_logged(self, lines: Lines):
        listen()
        logging.getLogger("theirs").warning("%d of them", CANARY)

        assert [] == lines()


def listen() -> None:
    configure_logging("INFO", "json")
    log_what_nobody_catches()


def assert_uncaught(lines: Lines) -> None:
    (line,) = lines()
    assert ("uncaught", "ValueError") == (line["event"], line["exception"])
    assert CANARY not in repr(line)


class TestConfigured:
    def test_twice_is_as_once(self, lines: Lines):
        configure_logging("DEBUG", "console")
        configure_logging("INFO", "json")
        structlog.get_logger("ours").info("started")
        structlog.get_logger("ours").debug("details")

        assert ["started"] == [line["event"] for line in lines()]

    def test_a_logger_that_was_there_before_follows(self, lines: Lines):
        log = structlog.get_logger("parley.ours")
        configure_logging("ERROR", "json")
        configure_logging("DEBUG", "json")
        log.debug("details")

        assert ["details"] == [line["event"] for line in lines()]

    def test_where_nobody_looks_on_it_is_json(self, lines: Lines):
        configure_logging("INFO", None)
        structlog.get_logger("ours").info("started")

        assert ["started"] == [line["event"] for line in lines()]

    def test_on_a_terminal_it_is_for_people(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        configure_logging("INFO", None)
        structlog.get_logger("ours").info("started")

        shown = capsys.readouterr().err
        assert "started" in shown
        assert not shown.startswith("{")

    def test_for_people_too_an_errors_message_is_lost(self, capsys: pytest.CaptureFixture[str]):
        configure_logging("INFO", "console")
        structlog.get_logger("ours").error("failed", exc_info=ValueError(CANARY))
        logging.getLogger("theirs").error("failed", exc_info=ValueError(CANARY))

        shown = capsys.readouterr().err
        assert 2 == shown.count("ValueError")
        assert CANARY not in shown
