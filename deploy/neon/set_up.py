"""
Makes a Neon database one that Parley can be served from, out of a pasted URL: see README.md.

The pasted role owns the database and migrates, over the direct host. A role that can do no more than
the API needs is made beside it, and the API gets that one's URL alone, over the pooled host.
"""

import asyncio
import os
import re
import secrets
import ssl
import sys
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import asyncpg
import typer
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from parley.cli.environment import stand_alone
from parley.cli.migrate import NotMigrated, upgrade
from parley.core.database import engine_url, is_of_neon_pooler
from parley.core.errors import AppError
from parley.core.settings import Settings

if TYPE_CHECKING:
    from parley.cli.doctor import Finding

ROLES_SQL = Path(__file__).parents[1] / "postgres/roles.sql"
API_ROLE = "parley_api"
POOLER = "-pooler"
# A database that Neon has put to sleep wakes in less.
WAKING_SECONDS = 60
LINE_BYTES_MAX = 4096
IS_THERE = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)"
# Neon has a certificate of a public CA. `require`, as its console has it, would talk to anybody.
VERIFIED = {"sslmode": "verify-full", "sslrootcert": "system"}
WEAK = {"disable", "allow", "prefer"}


class Refused(Exception):
    """Says what is wrong and what to do, and never a password."""


class Chosen(NamedTuple):
    """Whose file is where, and what is to become of them."""

    apis: Path
    owners: Path
    new_password: bool
    world_readable: bool


class Urls(NamedTuple):
    direct: URL
    pooled: URL


def parse(line: str) -> URL:
    """
    A line as the console has it: the URL alone, or in a command or an assignment.

    Raises:
        Refused: no URL in it leads to a database, or this one would by plain text.
    """
    found = re.search(r"postgres(?:ql)?://[^\s'\"]+", line)
    if found is None:
        raise Refused(
            "That has no URL: paste what Neon's console shows under Connect, postgresql://…"
        )
    try:
        url = engine_url(found[0])
    except ValueError as error:
        raise Refused(f"That URL {error}: paste it as Neon's console shows it") from None
    parts = ("username", "password", "host", "database")
    if missing := [part for part in parts if not getattr(url, part)]:
        raise Refused(
            f"That URL has no {' and no '.join(missing)}: have the console show all of it"
        )
    if (mode := url.query.get("sslmode")) in WEAK:
        raise Refused(f"That URL says sslmode={mode}: Neon's say sslmode=require, or more")
    return url.set(drivername="postgresql", query=VERIFIED)


def derive(url: URL) -> Urls:
    """Of a host of Neon's, either of the two names the other."""
    endpoint, dot, domain = str(url.host).partition(".")
    direct = endpoint.removesuffix(POOLER)
    return Urls(*(url.set(host=name + dot + domain) for name in (direct, direct + POOLER)))


def pair(direct: URL, pooled: URL) -> Urls:
    """
    Of other hosts, both must be given.

    Raises:
        Refused: they are not two ways to one database.
    """
    if (direct.username, direct.database) != (pooled.username, pooled.database):
        raise Refused("The two URLs are of two roles or databases: only host and port may differ")
    if (direct.host, direct.port) == (pooled.host, pooled.port):
        raise Refused("The two URLs have one host: the second must lead through the pooler")
    return Urls(direct, pooled)


def ask() -> Urls:
    """From the terminal, which does not show it, or from standard input; never by argument."""
    first = parse(_line("URL of the database, pooled or direct (it is not shown): "))
    if is_of_neon_pooler(first) is not None:
        return derive(first)
    typer.echo(f"{first.host} is no host of Neon's (ep-…), so it is taken for the direct one.")
    return pair(first, parse(_line("URL through the pooler (it is not shown): ")))


def _line(prompt: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline(LINE_BYTES_MAX)
    try:
        return getpass(prompt)
    except EOFError:
        # Ctrl-D: as at the end of a file.
        return ""


def known_url(file: Path, pooled: URL) -> URL | None:
    """What a run before has left there, where it is of this database."""
    try:
        known = engine_url(file.read_text().strip()).set(drivername="postgresql")
    except (FileNotFoundError, ValueError):
        return None
    return known if known == pooled.set(username=API_ROLE, password=known.password) else None


def keep(file: Path, url: URL, *, world_readable: bool) -> None:
    """Whole or not at all, as somebody may be reading it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600, exist_ok=False)
    new.write_text(url.render_as_string(hide_password=False))
    if world_readable:
        new.chmod(0o644)
    new.replace(file)


def examine(url: URL) -> "list[Finding]":
    """What `parley doctor` would say of the database, of an API that has this URL."""
    from parley.cli.doctor import examine_database  # noqa: PLC0415 - it counts from its import on

    settings = Settings(
        environment="production",
        database_url=url.render_as_string(hide_password=False),
        database_pooler="transaction",
        database_timeout_seconds=WAKING_SECONDS,
    )
    return asyncio.run(examine_database(settings))


async def make_role(urls: Urls, chosen: Chosen) -> URL:
    """
    The API's role, and its URL in its file.

    Raises:
        Refused: it is there, with a password that others have: they would be shut out.
    """
    known = known_url(chosen.apis, urls.pooled)
    connection = await asyncpg.connect(
        host=urls.direct.host, port=urls.direct.port or 5432, database=urls.direct.database,
        user=urls.direct.username, password=urls.direct.password, ssl=True,
        timeout=WAKING_SECONDS, command_timeout=WAKING_SECONDS,
    )  # fmt: skip
    try:
        if (
            known is None
            and not chosen.new_password
            and await connection.fetchval(IS_THERE, API_ROLE)
        ):
            raise Refused(
                f"The role {API_ROLE} is there, and {chosen.apis} does not have its URL: bring that file back, or run"
                " this with --new-password, and give the new URL to whatever has the old one"
            )
        password = known.password if known and not chosen.new_password else secrets.token_hex(32)
        url = urls.pooled.set(username=API_ROLE, password=password)
        # Before the role has it: a run that is cut short can be repeated.
        keep(chosen.apis, url, world_readable=chosen.world_readable)
        parameters = {"owner": urls.direct.username, "api": API_ROLE, "api_password": password}
        for name, value in parameters.items():
            await connection.execute("SELECT set_config($1, $2, false)", f"parley.{name}", value)
        await connection.execute(ROLES_SQL.read_text())
    finally:
        await connection.close()
    return url


def set_up(chosen: Chosen) -> bool:
    """Safe to run again: it then migrates, and changes nothing else. False if the API would be ill."""
    urls = ask()
    direct = urls.direct.render_as_string(hide_password=False)
    typer.echo(f"Making the role {API_ROLE} at {urls.direct.host}, which may have to wake ...")
    url = asyncio.run(make_role(urls, chosen))
    keep(chosen.owners, urls.direct, world_readable=chosen.world_readable)
    typer.echo(f"Migrating {urls.direct.database} as {urls.direct.username} ...")
    upgrade(direct)
    typer.echo(f"Looking at it as the API will, at {urls.pooled.host} ...")
    findings = examine(url)
    for finding in findings:
        typer.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:<8} {finding.detail}")
    typer.echo(f"{chosen.apis} is the API's; {chosen.owners} is for migrating, and no API's.")
    return all(finding.ok for finding in findings)


def explain(error: Exception) -> str:  # noqa: PLR0911 - one for each kind
    """In one line, and with what to do."""
    said = str(getattr(error, "orig", None) or error).partition("\n")[0] or type(error).__name__
    match error:
        case Refused() | NotMigrated():
            return str(error).replace("\n", " ")
        case ssl.SSLCertVerificationError():
            return (
                f"Its certificate is not to be believed here: {error.verify_message}. Where the system has"
                " no CAs, install ca-certificates; where a company's proxy stands in between, name its CA"
                " in SSL_CERT_FILE"
            )
        case asyncpg.InvalidPasswordError():
            return (
                f"{said}: paste the URL anew; Neon's console shows the password, and can reset it"
            )
        case asyncpg.InsufficientPrivilegeError():
            return f"{said}. {error.hint or ''}"
        case AppError():
            return f"{error.title}: run it again when it answers; what is done stays"
        case TimeoutError():
            return f"It does not answer in {WAKING_SECONDS} s: is the host right, and the way there open?"
        case _:
            return f"That did not work: {said}"


def main(
    folder: Annotated[Path, typer.Argument(help="Where the two URLs go.")] = Path("var/neon"),
    *,
    new_password: Annotated[
        bool, typer.Option("--new-password", help="Give the API's role another one.")
    ] = False,
    world_readable: Annotated[
        bool,
        typer.Option("--world-readable", help="For a folder that is shut to the world itself."),
    ] = False,
) -> None:
    """Make a Neon database Parley's. Its URL is asked for, or read from standard input."""
    stand_alone()
    os.umask(0o077)
    chosen = Chosen(
        apis=folder / "api/DATABASE_URL",
        owners=folder / "migrate/DATABASE_MIGRATION_URL",
        new_password=new_password,
        world_readable=world_readable,
    )
    try:
        is_well = set_up(chosen)
    except (
        Refused, NotMigrated, AppError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError
    ) as error:  # fmt: skip
        typer.echo(explain(error), err=True)
        is_well = False
    raise typer.Exit(0 if is_well else 1)


if __name__ == "__main__":
    typer.run(main)
