import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, NoReturn, TypeVar
from uuid import UUID

import asyncpg
import typer
from sqlalchemy.exc import SQLAlchemyError

from parley.cli.environment import stand_alone
from parley.core.errors import AppError, Unavailable
from parley.core.logging import configure_logging
from parley.core.settings import InvalidSettings, Settings, load_settings

app = typer.Typer(
    help="Parley, a self-hosted chat backend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
user = typer.Typer(help="Accounts that Parley keeps itself.", no_args_is_help=True)
key = typer.Typer(help="API keys of those accounts.", no_args_is_help=True)
files = typer.Typer(help="The bytes of users' files.", no_args_is_help=True)
app.add_typer(user, name="user")
app.add_typer(key, name="key")
app.add_typer(files, name="files")

Result = TypeVar("Result")
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read it from standard input.")
]
Json = Annotated[bool, typer.Option("--json", help="For a script to read.")]


@contextmanager
def plainly(hint: str = "`parley doctor` may say more.") -> Iterator[None]:
    """What an operator can mend is a line for each fault, and no traceback."""
    try:
        yield
    except InvalidSettings as invalid:
        fail(*invalid.faults)
    except AppError as error:
        fail(f"{error.title}. {error}", *([hint] if isinstance(error, Unavailable) else []))
    except (SQLAlchemyError, asyncpg.PostgresError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__]
        fail(f"That did not work: {reason[0]}", hint)


def fail(*lines: str) -> NoReturn:
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(1)


@app.callback()
def _begin(context: typer.Context) -> None:
    if context.invoked_subcommand != serve.__name__:
        stand_alone()


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the API on BACKEND_PORT until it is told to stop."""
    from parley.cli.environment import prepare  # noqa: PLC0415

    with plainly():
        settings = load_settings()
        settings.check_serving()
        prepare()
        from parley.cli.doctor import refusals  # noqa: PLC0415
        from parley.cli.serve import PortTaken, run  # noqa: PLC0415
        from parley.main import create_app  # noqa: PLC0415

        # Each worker looks for itself; here it is said plainly, and before any of them is there.
        if faults := asyncio.run(refusals(settings)):
            fail(*faults)
        try:
            run(create_app, settings, host)
        except PortTaken as taken:
            fail(str(taken))


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema. Safe to run again, and from two places at once."""
    from parley.cli.migrate import NotMigrated, upgrade  # noqa: PLC0415

    hint = "The schema is as the last line that says Applied left it. Mend it and migrate again."
    with plainly(hint):
        settings = load_settings()
        configure_logging(settings.log_level, settings.log_format)
        try:
            upgrade(settings.migration_url)
        except NotMigrated as stopped:
            fail(*stopped.lines)


@app.command()
def doctor(*, as_json: Json = False) -> None:
    """Check settings, database, schema, Redis, file store and model; exit 1 if anything is wrong."""
    from parley.cli.doctor import examine  # noqa: PLC0415

    # What a part of ours would log is in the findings.
    configure_logging("ERROR", None)
    findings = asyncio.run(examine())
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            mark = "ok  " if finding.ok else "FAIL"
            typer.echo(f"{mark}  {finding.name:<{width}} {finding.detail}")
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
    from parley.cli.chat import Terminal  # noqa: PLC0415
    from parley.cli.refusals import Refused  # noqa: PLC0415

    with plainly():
        base_url = url or f"http://127.0.0.1:{load_settings().backend_port}"
        try:
            with Terminal(base_url) as terminal:
                terminal.open_session(email)
                terminal.talk(conversation, last=last)
        except Refused as refused:
            fail(str(refused))


@user.command("create")
def create_user(
    email: str, *, password_stdin: PasswordStdin = False, as_json: Json = False
) -> None:
    """Open an account, also where registration is closed."""
    from parley.cli import users  # noqa: PLC0415

    password = _new_password(from_stdin=password_stdin)
    created = _change_accounts(lambda settings: users.create(settings, email, password))
    typer.echo(created.model_dump_json() if as_json else f"{created.email} is user {created.id}")


@user.command("disable")
def disable_user(email: str, *, as_json: Json = False) -> None:
    """Let nobody use an account, its sessions or its keys; nothing of it is lost."""
    from parley.cli import users  # noqa: PLC0415

    user_id = _change_accounts(lambda settings: users.disable(settings, email))
    _say_done("disabled", user_id, as_json=as_json)


@user.command("enable")
def enable_user(email: str, *, as_json: Json = False) -> None:
    """Let a disabled account be used again."""
    from parley.cli import users  # noqa: PLC0415

    user_id = _change_accounts(lambda settings: users.enable(settings, email))
    _say_done("enabled", user_id, as_json=as_json)


@user.command("reset-password")
def reset_password(
    email: str, *, password_stdin: PasswordStdin = False, as_json: Json = False
) -> None:
    """Give an account a new password, and end its sessions. Its API keys stay."""
    from parley.cli import users  # noqa: PLC0415

    password = _new_password(from_stdin=password_stdin)
    user_id = _change_accounts(lambda settings: users.reset_password(settings, email, password))
    _say_done("password_reset", user_id, as_json=as_json)


@user.command("delete")
def delete_user(
    email: str,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete an account and everything that is its user's."""
    from parley.cli import users  # noqa: PLC0415

    if not yes:
        typer.confirm(f"Delete {email} and all its conversations, for ever?", abort=True, err=True)
    user_id = _change_accounts(lambda settings: users.delete(settings, email))
    _say_done("deleted", user_id, as_json=as_json)


@key.command("create")
def create_key(
    email: str,
    *,
    name: Annotated[str, typer.Option(help="What it is for.")],
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="It lasts until it is deleted if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an API key for an account. It is shown once."""
    from parley.cli import users  # noqa: PLC0415

    created = _change_accounts(
        lambda settings: users.create_key(settings, email, name, expires_in_days)
    )
    typer.echo(created.model_dump_json() if as_json else created.key)


@files.command("sweep")
def sweep_files(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Also where the database knows none of them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Remove bytes that are no user's file, two days after they came; name files that lost theirs.

    As the database's owner: DATABASE_MIGRATION_URL. Exit 1 if a file has lost its bytes.
    """
    from parley.cli.files import NotSwept, lines_of, sweep  # noqa: PLC0415

    with plainly():
        try:
            swept = asyncio.run(sweep(load_settings(), takes_away=not dry_run, takes_all=yes))
        except NotSwept as refused:
            fail(str(refused))
    said = [json.dumps(asdict(swept), default=str)] if as_json else lines_of(swept)
    typer.echo("\n".join(said))
    raise typer.Exit(1 if swept.lost else 0)


def _new_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        fail("There is no terminal to ask for the password on: pipe it in, with --password-stdin.")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _change_accounts(change: Callable[[Settings], Coroutine[Any, Any, Result]]) -> Result:
    from parley.cli.users import Rejected  # noqa: PLC0415

    with plainly():
        try:
            return asyncio.run(change(load_settings()))
        except Rejected as refused:
            fail(str(refused))


def _say_done(what: str, user_id: str, *, as_json: bool) -> None:
    done = {"id": user_id, what: True}
    typer.echo(json.dumps(done) if as_json else f"user {user_id}: {what.replace('_', ' ')}")
