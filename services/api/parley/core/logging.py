"""
One pipe for all that is logged: ours, uvicorn's, SQLAlchemy's and Alembic's.

No line has message text, a token or a secret in it: events carry names, ids and numbers, and an
exception is logged by its type and its frames, for its message may quote what a user said.
"""

import logging
import re
import sys
import threading
import traceback
from typing import Literal, Protocol

import structlog
from structlog.typing import Processor

AUDIT_LOGGER = "parley.audit"
OUR_LOGGER = "parley"

# Of what these say, the rest is the arguments of a call, or the error of a task, in their own words.
_QUOTING = {
    "asyncio": re.compile(r"[^\n(<]*"),
    "py.warnings": re.compile(r"\S+:\d+: \w+"),
}


class Output(Protocol):
    """What lines are written to, one at a time."""

    def write(self, line: str, /) -> object: ...

    def flush(self) -> object: ...


_output: Output | None = None


def frames_of(exception: BaseException) -> dict[str, str | list[str]]:
    """What a log may say of a bug: where, and of which type, and never what it quotes."""
    causes = [exception]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    frames = traceback.extract_tb(exception.__traceback__)
    return {
        "exception": " from ".join(type(cause).__qualname__ for cause in causes),
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def configure_logging(level: str, log_format: Literal["console", "json"] | None) -> None:
    """Idempotent: the last call counts."""
    to_console = log_format == "console" or (log_format is None and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_quotes,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer()
        if to_console
        # ASCII only: no line separator or escape of somebody's making gets through.
        else structlog.processors.JSONRenderer(ensure_ascii=True)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(_output or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # What others say of their insides may be what a user said: theirs is never DEBUG.
    root.setLevel(max(logging.INFO, logging.getLevelName(level)))
    logging.getLogger(OUR_LOGGER).setLevel(level)
    _configure_loggers()


def log_to(output: Output) -> None:
    """From now on all lines go there, also when logging is configured again."""
    global _output  # noqa: PLW0603 - as `logging` itself, it is the process's
    _output = output
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(output)


def log_what_nobody_catches() -> None:
    """Python itself would print it on stderr, in another form and with the message of each error."""

    def say(error: BaseException | None) -> None:
        told = frames_of(error) if error else {}
        structlog.get_logger(__name__).error("uncaught", **told)

    sys.excepthook = lambda _type, error, _trace: say(error)
    sys.unraisablehook = lambda unraisable: say(unraisable.exc_value)
    threading.excepthook = lambda uncaught: say(uncaught.exc_value)
    logging.captureWarnings(capture=True)
    # A line that cannot be written is not shown in another way.
    logging.raiseExceptions = False


def _configure_loggers() -> None:
    # Whatever else is worth a line: who did what to an account is.
    logging.getLogger(AUDIT_LOGGER).setLevel(logging.INFO)
    # Our own line for each request has more in it, and for each migration as much; SQL statements are
    # nobody's business.
    for name in (
        *("uvicorn.access", "sqlalchemy.engine", "aiosqlite", "httpcore2", "httpx2"),
        *("alembic.runtime.migration", "alembic.runtime.plugins"),
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A form that makes no sense is the matter of who sent it.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True


def _without_quotes(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Another library's exception, by its type and frames; its message may quote a user."""
    if quoting := _QUOTING.get(event["logger"]):
        harmless = quoting.match(event["event"])
        event["event"] = harmless[0].strip() if harmless else event["logger"]
    exc_info = event.pop("exc_info", None)
    exception = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if exception is True:
        exception = sys.exc_info()[1]
    if isinstance(exception, BaseException):
        event.update(frames_of(exception))
    return event
