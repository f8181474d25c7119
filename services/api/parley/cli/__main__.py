import signal
import sys
from typing import NoReturn


def main() -> None:
    # The kernel keeps from the first process of a container what it has no handler for: without
    # this one, `docker stop` would wait for its whole grace until a server has its own.
    signal.signal(signal.SIGTERM, _leave)
    from parley.cli.backup_commands import add_to  # noqa: PLC0415 - it takes a while
    from parley.cli.commands import app  # noqa: PLC0415 - likewise

    add_to(app)
    app()


def _leave(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
