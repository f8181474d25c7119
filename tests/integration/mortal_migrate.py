"""`parley migrate` that is killed before the statement that has the words of DIE_AT in it."""

import os
import signal

from sqlalchemy import Engine, event

from parley.cli.migrate import upgrade

DIE_AT = os.environ["DIE_AT"]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@event.listens_for(Engine, "before_cursor_execute")
def before_statement(_conn: object, _cursor: object, statement: str, *_: object) -> None:
    if DIE_AT in statement:
        die()


@event.listens_for(Engine, "commit")
def before_commit(_: object) -> None:
    if DIE_AT == "COMMIT":
        die()


if __name__ == "__main__":
    upgrade(os.environ["DATABASE_URL"])
