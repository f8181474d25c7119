import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn
from uuid import UUID

import asyncpg
import typer
from sqlalchemy.exc import SQLAlchemyError

from parley.core.errors import AppError
from parley.core.settings import InvalidSettings, load_settings

app = typer.Typer(
    help="Parley, a self-hosted chat backend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
user = typer.Typer(help="Accounts that Parley keeps itself.", no_args_is_help=True)
app.add_typer(user, name="user")

Json = Annotated[bool, typer.Option("--json", help="For a script to read.")]


@contextmanager
def _plainly(hint: str = "`parley doctor` may say more.") -> Iterator[None]:
    """What an operator can mend is a line for each fault, and no traceback."""
    try:
        yield
    except InvalidSettings as invalid:
        _fail(*invalid.faults)
    except AppError as error:
        _fail(f"{error.title}. {error}")
    except (SQLAlchemyError, asyncpg.PostgresError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__]
        _fail(f"That did not work: {reason[0]}", hint)


def _fail(*lines: str) -> NoReturn:
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(1)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the API on BACKEND_PORT until it is told to stop."""
    from parley.cli.environment import prepare  # noqa: PLC0415

    with _plainly():
        settings = load_settings()
        settings.check_serving()
        prepare()
        from parley.cli.serve import PortTaken, run  # noqa: PLC0415
        from parley.main import create_app  # noqa: PLC0415

        try:
            run(create_app, settings, host)
        except PortTaken as taken:
            _fail(str(taken))


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema. Safe to run again, and from two places at once."""
    from parley.cli.migrate import upgrade  # noqa: PLC0415

    hint = "The schema is as the last line that says Applied left it. Mend it and migrate again."
    with _plainly(hint):
        upgrade(load_settings().migration_url)


@app.command()
def doctor(*, as_json: Json = False) -> None:
    """Check settings, database, schema, Redis and model; exit 1 if anything is wrong."""
    from parley.cli.doctor import examine  # noqa: PLC0415

    findings = asyncio.run(examine())
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:<9} {finding.detail}")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


@app.command()
def chat(
    url: Annotated[
        str | None, typer.Option(help="Where Parley is; BACKEND_PORT on this machine if left out.")
    ] = None,
    email: Annotated[str | None, typer.Option(help="Asked for if left out.")] = None,
    conversation: Annotated[UUID | None, typer.Option(help="One to go on with.")] = None,
    *,
    last: Annotated[bool, typer.Option("--last", help="Go on with your last one.")] = False,
) -> None:
    """Chat in the terminal; replies come as they are written."""
    from parley.cli.chat import Refused, Terminal  # noqa: PLC0415

    with _plainly():
        base_url = url or f"http://127.0.0.1:{load_settings().backend_port}"
        try:
            with Terminal(base_url) as terminal:
                terminal.open_session(email)
                terminal.talk(conversation, last=last)
        except Refused as refused:
            _fail(str(refused))


@user.command("create")
def create_user(
    email: str,
    *,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read it from standard input.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Open an account, also where registration is closed."""
    from parley.cli.users import Rejected, create  # noqa: PLC0415

    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    with _plainly():
        try:
            created = asyncio.run(create(load_settings(), email, password))
        except Rejected as refused:
            _fail(str(refused))
    typer.echo(created.model_dump_json() if as_json else f"{created.email} is user {created.id}")
