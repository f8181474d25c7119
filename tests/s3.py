"""A server that speaks S3: moto's, from the development tools. It checks no signature."""

import signal
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import httpx

from parley.core.ids import new_id
from tests.servers import Program, start_program


@contextmanager
def s3_server() -> Generator[str]:
    """Yields its URL."""
    # What it does is nobody's to measure, and it would take three times as long.
    unmeasured = ("env", "--unset=COVERAGE_PROCESS_CONFIG", "--unset=COVERAGE_PROCESS_START")
    moto = (sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p")
    serve = [*unmeasured, *moto]
    with ExitStack() as running:
        port = start_program(running, Program(serve, stop=signal.SIGTERM), ready=b"Running on")
        yield f"http://127.0.0.1:{port}"


def make_bucket(url: str) -> str:
    name = f"parley-{new_id()}"
    httpx.put(f"{url}/{name}", timeout=30).raise_for_status()
    return name
