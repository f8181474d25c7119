from collections.abc import Callable, Generator

import pytest

from tests.containers.stack import Stack

Say = Callable[[str], None]


@pytest.fixture(scope="session")
def stack() -> Generator[Stack]:
    """As a fresh clone has it."""
    with Stack().running() as stack:
        yield stack


@pytest.fixture(scope="session")
def replicas(stack: Stack) -> Generator[Stack]:  # noqa: ARG001 - it is there as well
    """Three APIs behind nginx, and PgBouncer behind them; beside the other stack."""
    variables = {
        "DATABASE_POOLER": "transaction",
        "BODY_TIMEOUT_SECONDS": "5",
        "DATABASE_TIMEOUT_SECONDS": "30",
    }
    profiles = ("replicas", "pgbouncer")
    with Stack(*profiles, **variables).running() as replicas:
        yield replicas


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """A figure that people want to see, whatever pytest does with what a test prints."""

    def print_it(figure: str) -> None:
        with capsys.disabled():
            print(f"\n    {figure}", flush=True)  # noqa: T201

    return print_it
