"""kill -9 while files come: what is listed is whole, and what is left of the others is swept."""

import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from parley.core.ids import new_id
from parley.services.files.service import UPLOADS_AT_ONCE
from parley.services.files.sweep import GRACE_SECONDS
from tests.processes import PATIENCE_SECONDS, Server, account

# It starts a dozen processes, and on a busy machine each takes its time.
pytestmark = pytest.mark.timeout(600)

MORTAL_SERVER = (sys.executable, str(Path(__file__).with_name("mortal_server.py")))
USERS = 5
UPLOADS = 50
# What has a part of its own is begun on the disk before its end, what is shorter is not.
LARGE_BYTES = 3_000_000
SIZES = (1000, 300_000, LARGE_BYTES)
# What is nobody's, but may be just on its way; and what no file of ours is called.
YOUNG = {str(new_id()), f"{new_id()}#1"}
NOT_OURS = {"somebody else's"}
BOUNDARY = "a-boundary-of-the-tests"


@dataclass(frozen=True)
class Installation:
    """A database, and a folder of files with some in it that no sweep may take."""

    folder: Path
    variables: dict[str, str]

    @property
    def files(self) -> Path:
        return self.folder / "files"

    def there(self) -> set[str]:
        names = {path.name for path in self.files.iterdir()}
        assert names >= YOUNG | NOT_OURS
        return names - YOUNG - NOT_OURS

    def begun(self) -> set[str]:
        """What the store writes into before it gives it its name."""
        return {name for name in self.there() if "#" in name}

    def sweep(self) -> None:
        swept = subprocess.run(
            [sys.executable, "-m", "parley.cli", "files", "sweep"],
            cwd=self.folder, env=os.environ | self.variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert 0 == swept.returncode, swept.stdout + swept.stderr
        assert "\n  0 of them without their bytes\n" in swept.stdout

    def age(self) -> None:
        """As if all that has come meanwhile had been there for long."""
        then = time.time() - GRACE_SECONDS - 60
        for name in self.there() | NOT_OURS:
            os.utime(self.files / name, (then, then))


@pytest.fixture(params=["sqlite", "postgres"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Installation:
    if request.param == "sqlite":
        api = owner = request.getfixturevalue("sqlite_url")
    else:
        postgres = request.getfixturevalue("postgres")
        api, owner = postgres.api, postgres.owner
    files = tmp_path / "files"
    files.mkdir()
    for name in YOUNG | NOT_OURS:
        (files / name).write_text("precious")
    variables = {
        "DATABASE_URL": api,
        "DATABASE_MIGRATION_URL": owner,
        "FILES_URL": f"file://{files}",
        # A half of them waits until all others have come as far.
        "BODY_TIMEOUT_SECONDS": "600",
        # Who waits longer than two seconds for one is told to come again, and is no part of this.
        "DATABASE_POOL_SIZE": str(UPLOADS_AT_ONCE),
    }
    return Installation(tmp_path, variables)


def size_of(filename: str) -> int:
    return SIZES[sum(filename.encode()) % len(SIZES)]


def content_of(filename: str) -> bytes:
    """Of every name another, and always the same."""
    return hashlib.shake_256(filename.encode()).digest(size_of(filename))


def form_of(filename: str) -> bytes:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
    )
    return head.encode() + b"\r\n" + content_of(filename) + f"\r\n--{BOUNDARY}--\r\n".encode()


@dataclass
class Upload:
    """One on a connection of its own, which says how far it has come."""

    filename: str
    token: str
    half_is_sent: asyncio.Event = field(default_factory=asyncio.Event)
    answer: bytes = b""

    async def run(self, port: int, may_end: asyncio.Event) -> None:
        """Until there is an answer, or the server is gone."""
        form = form_of(self.filename)
        head = (
            "POST /api/v1/files HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Authorization: {self.token}\r\nContent-Length: {len(form)}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
        ).encode()
        half = len(form) // 2
        loop = asyncio.get_running_loop()
        with socket.socket() as connection, suppress(ConnectionError):
            connection.settimeout(0)  # asyncio waits
            await loop.sock_connect(connection, ("127.0.0.1", port))
            await loop.sock_sendall(connection, head + form[:half])
            self.half_is_sent.set()
            await may_end.wait()
            await loop.sock_sendall(connection, form[half:])
            while piece := await loop.sock_recv(connection, 65_536):
                self.answer += piece

    def kept(self) -> dict[str, Any] | None:
        """What the server said that it has: nothing, if it has said nothing, or not to its end."""
        head, _, body = self.answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
        if not length or len(body) < int(length):
            return None
        assert head.startswith(b"HTTP/1.1 201 "), self.answer
        file: dict[str, Any] = json.loads(body)
        return file


async def upload_until_killed(
    server: Server, installation: Installation, uploads: Sequence[Upload], moment: "Moment"
) -> None:
    # The first ones come alone: a process does not take all of them at once.
    may_end, never = asyncio.Event(), asyncio.Event()
    may_end.set()
    alone = len(uploads) - UPLOADS_AT_ONCE
    await asyncio.gather(*(upload.run(server.port, may_end) for upload in uploads[:alone]))

    may_end.clear()
    crowd = uploads[alone:]
    waits = [may_end] * moment.ending + [never] * (len(crowd) - moment.ending)
    running = {
        asyncio.create_task(upload.run(server.port, wait))
        for upload, wait in zip(crowd, waits, strict=True)
    }
    await asyncio.gather(*(upload.half_is_sent.wait() for upload in crowd))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(installation.begun()) < number_of_large(crowd):
            await asyncio.sleep(0.01)
    may_end.set()
    unanswered = running
    while len(running - unanswered) < moment.answered:
        _, unanswered = await asyncio.wait(unanswered, return_when=asyncio.FIRST_COMPLETED)
    server.kill()
    never.set()
    await asyncio.gather(*running)


def number_of_large(uploads: Sequence[Upload]) -> int:
    return sum(size_of(upload.filename) == LARGE_BYTES for upload in uploads)


class Moment(NamedTuple):
    """
    All that come at once have sent a half, and the store has begun each that has a part of its own;
    then so many send the rest, and as soon as so many have their answer, the server is killed.
    """

    ending: int
    answered: int


MOMENTS = [
    Moment(UPLOADS_AT_ONCE, 1),
    Moment(30, 15),
    Moment(20, 20),
    Moment(UPLOADS_AT_ONCE, UPLOADS_AT_ONCE - 1),
]


def listed(client: httpx.Client) -> dict[str, dict[str, Any]]:
    """All files of a user, by id."""
    page = client.get("/files", params={"limit": 100}).json()
    assert None is page["next_cursor"]
    return {file["id"]: file for file in page["items"]}


def assert_whole(client: httpx.Client, files: dict[str, dict[str, Any]]) -> None:
    for file in files.values():
        content = client.get(f"/files/{file['id']}/content")
        assert 200 == content.status_code, content.text
        assert content_of(file["filename"]) == content.content
        assert hashlib.sha256(content.content).hexdigest() == file["sha256"]


class TestKill:
    def test_9_amid_fifty_uploads_keeps_what_was_answered_and_leaves_the_rest_to_be_swept(
        self, installation: Installation
    ):
        server = Server(installation.folder, **installation.variables)
        with server, ExitStack() as closing:
            clients = [
                closing.enter_context(account(server.url, f"user-{number}@example.com"))
                for number in range(USERS)
            ]
            for number, moment in enumerate(MOMENTS):
                uploads = [
                    Upload(f"{number}-{n}.bin", clients[n % USERS].headers["Authorization"])
                    for n in range(UPLOADS)
                ]
                asyncio.run(upload_until_killed(server, installation, uploads, moment))
                held = uploads[UPLOADS - UPLOADS_AT_ONCE + moment.ending :]
                assert number_of_large(held) <= len(installation.begun())

                server.start()
                before = [listed(client) for client in clients]
                kept = [file for upload in uploads if (file := upload.kept()) is not None]
                assert moment.answered <= len(kept)
                known = {file_id: file for files in before for file_id, file in files.items()}
                assert kept == [known[file["id"]] for file in kept]

                installation.age()
                installation.sweep()

                assert known.keys() == installation.there()
                assert before == [listed(client) for client in clients]
                for client, files in zip(clients, before, strict=True):
                    assert_whole(client, files)


class TestDeath:
    @pytest.mark.parametrize(
        ("point", "kept"),
        [
            ("before the metadata", ["first.bin"]),
            ("before the commit of the metadata", ["first.bin"]),
            ("after the commit of the metadata", ["second.bin", "first.bin"]),
        ],
    )
    def test_behind_the_bytes_leaves_the_whole_file_or_bytes_that_are_swept(
        self, installation: Installation, point: str, kept: list[str]
    ):
        server = Server(
            installation.folder, *MORTAL_SERVER, **installation.variables, TEST_LEASE_SECONDS="600"
        )
        with server, account(server.url) as client:
            first = client.post("/files", files=form("first.bin")).json()
            die_at = installation.folder / "die-at"
            die_at.write_text(point)
            with pytest.raises(httpx.RemoteProtocolError):
                client.post("/files", files=form("second.bin"))
            assert not die_at.exists()

            # By then gunicorn has started another.
            files = listed(client)
            assert 2 == len(installation.there())
            installation.age()
            installation.sweep()

            assert kept == [file["filename"] for file in files.values()]
            assert first == files[first["id"]]
            assert files.keys() == installation.there()
            assert files == listed(client)
            assert_whole(client, files)


def form(filename: str) -> dict[str, tuple[str, bytes]]:
    return {"file": (filename, content_of(filename))}
