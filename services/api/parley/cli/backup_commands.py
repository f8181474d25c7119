"""The commands that back up and restore."""

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from parley.cli.commands import Json, fail, plainly
from parley.core.settings import load_settings


class What(StrEnum):
    ALL = "all"
    FILES = "files"


def back_up(
    what: Annotated[
        What, typer.Argument(help="`files`: of the PostgreSQL dump that is begun there.")
    ] = What.ALL,
    to: Annotated[Path, typer.Option(help="The folder of backups.")] = Path("var/backups"),
    keep: Annotated[
        int | None, typer.Option(min=1, help="Then remove all but so many of the newest there.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """
    Back up the embedded database and its files, also while Parley serves.

    PostgreSQL's is dumped by its own tools: `make backup`, or as docs/backup.md says.
    """
    from parley.cli.backups import Refused, back_up, lines_of  # noqa: PLC0415

    # Everybody's words are in it.
    os.umask(0o077)
    with plainly():
        try:
            done = back_up(load_settings(), to, only_files=what is What.FILES, keep=keep)
        except Refused as refused:
            fail(str(refused))
    if as_json:
        said = {"folder": str(done.folder), **done.manifest.model_dump(mode="json")}
        typer.echo(json.dumps(said | {"removed": [*map(str, done.removed)]}))
    else:
        lines = [f"removed {path}" for path in done.removed]
        typer.echo("\n".join([*lines_of(done.folder, done.manifest), *lines]))
    if lost := len(done.manifest.lost):
        files = "1 file had lost its" if lost == 1 else f"{lost} files had lost their"
        fail(f"{files} bytes: is FILES_URL the right one?")


def restore(
    folder: Annotated[Path, typer.Option("--from", help="The backup.")],
    what: Annotated[
        What, typer.Argument(help="`files`: of a PostgreSQL dump, which is restored next.")
    ] = What.ALL,
    *,
    as_json: Json = False,
) -> None:
    """
    Restore a backup into an embedded database that is empty, and its files.

    All of it is looked at first: what is not as it was made, or would write over something, is refused.
    """
    from parley.cli.backups import Refused, lines_of, restore  # noqa: PLC0415

    if what is What.ALL:
        # Of a dump the API reads the files, and is another user.
        os.umask(0o077)
    with plainly():
        try:
            manifest = restore(load_settings(), folder, only_files=what is What.FILES)
        except Refused as refused:
            fail(str(refused))
    said = {"folder": str(folder), **manifest.model_dump(mode="json")}
    typer.echo(json.dumps(said) if as_json else "\n".join(lines_of(folder, manifest)))


def add_to(app: typer.Typer) -> None:
    app.command("backup")(back_up)
    app.command("restore")(restore)
