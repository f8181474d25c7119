"""A backup on a disk: private, and whole or not there."""

import csv
import hashlib
import os
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG
from uuid import UUID

from pydantic import ValidationError

from parley.schemas.backups import (
    DatabaseCopy,
    FileCopies,
    KeptFile,
    Manifest,
    Snapshot,
)

MANIFEST = "manifest.json"
FILES = "files"
FILE_LIST = "files.sha256"
MANIFEST_MAX_BYTES = 16 * 1024**2
"""The ids of 400,000 files that have no bytes."""
_DATABASES = ("database.dump", "database.sqlite")
# What the database's own tools write, and the manifest says again.
_BEGUN, _ROWS = "begun.csv", "rows.csv"
_LINE_MAX = 200
_LINE = re.compile(rb"([0-9a-f]{64})  files/([0-9a-f-]{36})\n")


class NotWhole(Exception):
    """It is no backup, or not all of it, or not as it was made: what is wrong."""


class Busy(Exception):
    """Somebody else makes a backup there, or has made it."""


class Backup:
    """One of them, to be read. Nothing in it leads to anywhere else: links are not followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = path / FILES

    def manifest(self) -> Manifest:
        """
        Raises:
            NotWhole: there is none, or it is of another format.
        """
        with self._opened(MANIFEST) as file:
            text = file.read(MANIFEST_MAX_BYTES + 1)
        try:
            return Manifest.model_validate_json(text[:MANIFEST_MAX_BYTES])
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            msg = (
                f"{self.path / MANIFEST} is no manifest that this release reads: {where or 'JSON'}"
            )
            raise NotWhole(msg) from None

    def require(self, manifest: Manifest) -> None:
        """
        Raises:
            NotWhole: the database's copy or the list of files is not what the manifest says.
        """
        copy = manifest.database
        if (copy.size, copy.sha256) != self.digest(copy.name):
            msg = f"{self.path / copy.name} differs from {MANIFEST}: it is not as it was made"
            raise NotWhole(msg)
        if manifest.files.list_sha256 != self.digest(FILE_LIST)[1]:
            msg = f"{self.path / FILE_LIST} differs from {MANIFEST}: it is not as it was made"
            raise NotWhole(msg)
        if self.files.is_symlink() or not self.files.is_dir():
            msg = f"{self.files} is not there"
            raise NotWhole(msg)

    def kept(self) -> Iterator[KeptFile]:
        """
        The files of the list.

        Raises:
            NotWhole: a line of it is none.
        """
        with self._opened(FILE_LIST) as file:
            while line := file.readline(_LINE_MAX):
                found = _LINE.fullmatch(line)
                file_id = found and _id_of(found[2])
                if not found or not file_id:
                    msg = f"{self.path / FILE_LIST} has a line that names no file"
                    raise NotWhole(msg)
                yield KeptFile(file_id, found[1].decode())

    def digest(self, name: str) -> tuple[int, str]:
        """Size and SHA-256."""
        with self._opened(name) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return os.fstat(file.fileno()).st_size, digest

    @contextmanager
    def _opened(self, name: str) -> Generator[BufferedReader]:
        path = self.path / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            msg = f"{path} cannot be read: {error.strerror}"
            raise NotWhole(msg) from error
        with os.fdopen(descriptor, "rb") as file:
            if not S_ISREG(os.fstat(descriptor).st_mode):
                msg = f"{path} is no file"
                raise NotWhole(msg)
            yield file


class Unfinished(Backup):
    """One that is being made. Nobody takes it for whole: it has no manifest, and another name."""

    def note(self, kept: Iterable[KeptFile]) -> None:
        """All files that the database names; `finish` leaves those in the list that were copied."""
        with (self.path / FILE_LIST).open("wb") as file:
            file.writelines(map(_line_of, kept))

    def snapshot(self) -> Snapshot:
        """
        As `deploy/postgres/backup/backup.sh` has noted it.

        Raises:
            NotWhole: it has not, or not to the end.
        """
        try:
            [(made_at, revision)] = csv.reader((self.path / _BEGUN).read_text().splitlines())
            rows = dict(csv.reader((self.path / _ROWS).read_text().splitlines()))
            said = {"made_at": made_at, "revision": revision, "rows": rows}
            return Snapshot.model_validate(said)
        except (OSError, ValueError) as error:
            msg = f"No database was dumped into {self.path}: `make backup` does, or docs/backup.md says how"
            raise NotWhole(msg) from error

    def finish(
        self,
        snapshot: Snapshot,
        *,
        total_bytes: int,
        deleted: Iterable[KeptFile],
        lost: Iterable[KeptFile],
    ) -> tuple[Path, Manifest]:
        """
        From now on it is a backup, and lasts.

        Raises:
            NotWhole: there is no copy of the database.
            Busy: another one is of the same second.
        """
        gone, cut = {file.id for file in deleted}, {file.id for file in lost}
        count = self._leave_out(gone | cut)
        manifest = Manifest(
            **snapshot.model_dump(),
            database=self._database(),
            files=FileCopies(
                count=count, total_bytes=total_bytes, list_sha256=self.digest(FILE_LIST)[1]
            ),
            deleted=tuple(sorted(gone)),
            lost=tuple(sorted(cut)),
        )
        text = manifest.model_dump_json(indent=2)
        if len(text) > MANIFEST_MAX_BYTES:
            msg = f"{len(gone | cut)} files have no bytes: is FILES_URL the right one?"
            raise NotWhole(msg)
        for name in (_BEGUN, _ROWS):
            (self.path / name).unlink(missing_ok=True)
        (self.path / MANIFEST).write_text(f"{text}\n")
        return self._give_name(manifest), manifest

    def _leave_out(self, missing: set[UUID]) -> int:
        copied = self.path / f"{FILE_LIST}.new"
        count = 0
        with copied.open("wb") as file:
            for kept in self.kept():
                if kept.id not in missing:
                    file.write(_line_of(kept))
                    count += 1
        copied.replace(self.path / FILE_LIST)
        return count

    def _database(self) -> DatabaseCopy:
        for name in _DATABASES:
            if (self.path / name).exists():
                size, digest = self.digest(name)
                return DatabaseCopy.model_validate({"name": name, "size": size, "sha256": digest})
        msg = f"There is no copy of a database in {self.path}"
        raise NotWhole(msg)

    def _give_name(self, manifest: Manifest) -> Path:
        for path in (*self.path.iterdir(), self.path):
            _settle(path)
        named = self.path.with_name(f"{manifest.made_at:%Y-%m-%dT%H-%M-%SZ}")
        if named.exists():
            msg = f"{named} is there already: back up again in a second"
            raise Busy(msg)
        self.path.rename(named)
        _settle(named.parent)
        return named


def _line_of(file: KeptFile) -> bytes:
    return f"{file.sha256}  {FILES}/{file.id}\n".encode()


def _id_of(text: bytes) -> UUID | None:
    try:
        return UUID(text.decode())
    except ValueError:
        return None


def _settle(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
