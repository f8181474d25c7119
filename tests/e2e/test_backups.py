"""`parley backup` while `parley serve` writes, and what `parley restore` makes of it."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import SLOW_SERVER, Server, account, say
from tests.transcripts import read_whole
from tests.writers import check, until_all_have_written, writing

BACKUPS = 2


def parley(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "parley.cli", *command], cwd=folder, env=os.environ | variables,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def done(folder: Path, *command: str) -> dict[str, Any]:
    ended = parley(folder, *command, "--json")
    assert 0 == ended.returncode, ended.stderr
    assert "" == ended.stderr
    said: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return said


class TestUnderWriters:
    def test_every_backup_has_every_turn_that_was_answered_before_it_whole(self, tmp_path: Path):
        here = tmp_path / "here"
        here.mkdir()
        assert 0 == parley(here, "migrate").returncode
        taken: list[tuple[str, list[int]]] = []
        with Server(here) as server, writing(server.url) as written:
            for _ in range(BACKUPS):
                answered = until_all_have_written(written)
                taken.append((done(here, "backup")["folder"], answered))

        for folder, answered in taken:
            there = tmp_path / folder.replace("/", "-")
            there.mkdir()
            manifest = done(there, "restore", "--from", str(here / folder))
            assert [] == manifest["lost"]
            with Server(there) as server:
                for number, at_least in enumerate(answered):
                    check(server.url, number, at_least)


class TestRunningTurn:
    def test_what_was_running_ends_failed_and_its_conversation_goes_on(self, tmp_path: Path):
        here, there = tmp_path / "here", tmp_path / "there"
        for folder in (here, there):
            folder.mkdir()
        assert 0 == parley(here, "migrate").returncode
        with Server(here, *SLOW_SERVER) as server, account(server.url) as client:
            made = client.post("/conversations", json={}).json()
            body = {"message": "lost", "conversation_id": made["id"], "stream": True}
            with client.stream("POST", "/me/chat", json=body) as stream:
                lines = stream.iter_lines()
                turn = next(line for line in lines if line.startswith("data: "))
                turn_id = json.loads(turn.removeprefix("data: "))["turn_id"]
                while next(lines) != 'data: {"text":"first "}':
                    pass
                folder = done(here, "backup")["folder"]
            (here / "go").touch()

        done(there, "restore", "--from", str(here / folder))
        with Server(there) as server, account(server.url) as client:
            assert "You said: found" in say(client, "found", made["id"])["reply"]["content"]
            lost = client.get(f"/turns/{turn_id}").json()
            assert ("failed", "lost") == (lost["status"], lost["message"]["content"])
            asked, _ = read_whole(client, made["id"])
        assert ["found"] == [one["content"] for one in asked]


class TestCommand:
    def test_nobody_else_reads_what_it_writes(self, tmp_path: Path):
        assert 0 == parley(tmp_path, "migrate").returncode
        with Server(tmp_path) as server, account(server.url) as client:
            client.post("/files", files={"file": ("a.txt", b"hello", "text/plain")})
        folder = tmp_path / done(tmp_path, "backup")["folder"]

        assert 5 == len([*folder.rglob("*")])
        for path in (folder.parent, folder, *folder.rglob("*")):
            assert 0 == path.stat().st_mode & 0o077, path

    def test_nobody_else_reads_what_it_restores(self, tmp_path: Path):
        assert 0 == parley(tmp_path, "migrate").returncode
        with Server(tmp_path) as server, account(server.url) as client:
            client.post("/files", files={"file": ("a.txt", b"hello", "text/plain")})
        folder = tmp_path / done(tmp_path, "backup")["folder"]
        there = tmp_path / "there"
        there.mkdir()

        done(there, "restore", "--from", str(folder))

        restored = [*there.rglob("*")]
        assert {"var", "parley.db", "files"} <= {path.name for path in restored}
        for path in restored:
            assert 0 == path.stat().st_mode & 0o077, path

    @pytest.mark.parametrize("option", [[], ["--json"]])
    def test_where_files_have_lost_their_bytes_it_is_exit_1(
        self, tmp_path: Path, option: list[str]
    ):
        assert 0 == parley(tmp_path, "migrate").returncode
        with Server(tmp_path) as server, account(server.url) as client:
            client.post("/files", files={"file": ("a.txt", b"hello", "text/plain")})
        (tmp_path / "empty").mkdir()

        failed = parley(tmp_path, "backup", *option, FILES_URL=f"file://{tmp_path}/empty")

        assert (1, 1) == (failed.returncode, len(failed.stderr.splitlines()))
        assert "1 file had lost its bytes: is FILES_URL the right one?" in failed.stderr
        (folder,) = (tmp_path / "var/backups").iterdir()
        assert folder.name in failed.stdout

    def test_a_full_disk_is_said_and_where_it_is(self, tmp_path: Path):
        """Of a process that may write no more than 4 KiB into a file, as near as one comes."""
        assert 0 == parley(tmp_path, "migrate").returncode
        command = f"ulimit -f 4; exec {shlex.quote(sys.executable)} -m parley.cli backup"
        full = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False,
            # Or what it imports would be written half, for everybody who imports it next.
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip

        assert (1, 1) == (full.returncode, len(full.stderr.splitlines())), full.stderr
        assert "var/parley.db cannot be copied into var/backups/unfinished" in full.stderr
        assert "Is there room" in full.stderr

    def test_what_is_refused_is_a_line_and_exit_1(self, tmp_path: Path):
        refused = parley(tmp_path, "backup")
        assert (1, "") == (refused.returncode, refused.stdout)
        assert "There is no database at var/parley.db\n" == refused.stderr

        nothing = parley(tmp_path, "restore", "--from", "var/backups/none")
        assert (1, "") == (nothing.returncode, nothing.stdout)
        assert "manifest.json cannot be read: No such file" in nothing.stderr

    def test_a_person_is_told_what_is_in_it(self, tmp_path: Path):
        assert 0 == parley(tmp_path, "migrate").returncode
        told = parley(tmp_path, "backup", "--to", "elsewhere", "--keep", "1")

        (folder,) = (tmp_path / "elsewhere").iterdir()
        assert f"elsewhere/{folder.name}\n  1 rows of 9 tables, " in told.stdout
        assert told.stdout.endswith(" bytes\n  0 files, 0 bytes\n")
