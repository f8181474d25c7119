"""The code of the release before, out of this repository's history."""

import subprocess
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[1]
CODE = "services/api"
MODELS = f"{CODE}/parley/models"
VERSIONS = f"{CODE}/migrations/versions"


class NoHistory(Exception):
    """Why there is no older code here, and how to get it."""


def git(*command: str, folder: Path = ROOT) -> bytes:
    done = subprocess.run(["git", *command], cwd=folder, capture_output=True, check=False)
    if done.returncode != 0:
        raise NoHistory(done.stderr.decode())
    return done.stdout


def before(folder: Path = ROOT) -> str:
    """
    The newest release that is not this commit itself.

    Before there is any: the newest commit that had other tables, which a rolling deployment may
    have beside this one just as well.

    Raises:
        NoHistory: it is not here.
    """
    by_version = ("-c", "versionsort.suffix=-", "tag", "--list", "v*", "--sort=version:refname")
    tags = git(*by_version, "--merged=HEAD", "--no-contains=HEAD", folder=folder).decode().split()
    if tags:
        return tags[-1]
    if git("rev-parse", "--is-shallow-repository", folder=folder).strip() == b"true":
        msg = "This clone has no history: git fetch --unshallow --tags"
        raise NoHistory(msg)
    added = git("log", "--diff-filter=A", "--format=%H^", "--", VERSIONS, folder=folder)
    for commit in added.decode().split():
        if git("diff", "--name-only", commit, "HEAD", "--", MODELS, folder=folder):
            return commit
    msg = "No commit before this one had other tables."
    raise NoHistory(msg)


def unpack(commit: str, folder: Path) -> Path:
    """Returns where its package can be imported from."""
    with ZipFile(BytesIO(git("archive", "--format=zip", commit, CODE))) as archive:
        archive.extractall(folder)
    return folder / CODE
