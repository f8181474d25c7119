"""
The release before, on the schema of this one: as in a rolling deployment, or after a rollback.

It runs with the libraries that are locked now, not with its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from parley.crud.ports import SCHEMA_REVISION
from tests.databases import DatabaseUrls, connected
from tests.processes import Server, account, get, say
from tests.releases import ROOT, NoHistory, before, git, unpack

WHICH = """
import json, parley
from parley.crud.ports import SCHEMA_REVISION
print(json.dumps([parley.__file__, SCHEMA_REVISION]))
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    try:
        return unpack(before(), tmp_path / "before")
    except (NoHistory, OSError) as nothing:
        pytest.skip(f"The code of the release before is not here. {nothing}")


@pytest.fixture
def old(tmp_path: Path, postgres: DatabaseUrls, code: Path) -> Generator[Server]:
    variables = {"PYTHONPATH": str(code), "DATABASE_URL": postgres.api}
    which = subprocess.run(
        [sys.executable, "-c", WHICH], cwd=tmp_path, env=os.environ | variables,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    package, revision = json.loads(which.stdout)
    assert code / "parley/__init__.py" == Path(package)
    assert revision <= SCHEMA_REVISION
    with Server(tmp_path, **variables) as server:
        yield server


def use(server: Server) -> None:
    """All that is there of what people do, by the server's own word."""
    paths = get(f"{server.url}/openapi.json").json()["paths"]
    with account(server.url):
        pass
    # Who is registered already logs in.
    with account(server.url) as ann:
        first = say(ann, "remember me please")
        conversation_id = first["conversation_id"]
        again = say(ann, "well?", conversation_id)
        assert again["reply"]["content"].endswith("you last said: remember me please.")
        if "/api/v1/conversations/{conversation_id}/regenerate" in paths:
            anew = ok(ann.post(f"/conversations/{conversation_id}/regenerate", json={}))
            assert again["turn_id"] != anew["turn_id"]
        said = ["remember me please", "well?"]
        if "/api/v1/files" in paths:
            said.append(say_with_a_file(ann, conversation_id))
        listed = ok(ann.get("/conversations"))["items"]
        assert [conversation_id] == [conversation["id"] for conversation in listed]
        read = ok(ann.get(f"/conversations/{conversation_id}"))["messages"]
        assert said == [message["content"] for message in read if message["role"] == "user"]
        key = ok(ann.post("/auth/keys", json={"name": "import"}))
        assert key["id"] == ok(ann.get("/auth/keys"))["items"][0]["id"]
        assert ann.delete(f"/conversations/{conversation_id}").is_success
        assert 404 == ann.get(f"/conversations/{conversation_id}").status_code
        assert [] == ok(ann.get("/conversations"))["items"]


def say_with_a_file(client: httpx.Client, conversation_id: str) -> str:
    file = ok(client.post("/files", files={"file": ("a.txt", b"some words", "text/plain")}))
    said = "and this?"
    body = {"message": said, "conversation_id": conversation_id, "attachments": [file["id"]]}
    (carried,) = ok(client.post("/me/chat", json=body))["message"]["attachments"]
    assert file["id"] == carried["id"]
    assert b"some words" == client.get(f"/files/{file['id']}/content").content
    return said


def ok(answer: httpx.Response) -> dict[str, Any]:
    assert answer.is_success, answer.text
    return dict(answer.json())


class TestOnThisSchema:
    def test_it_serves(self, old: Server):
        assert SCHEMA_REVISION == get(f"{old.url}/health/ready").json()["schema_revision"]

        use(old)

    def test_beside_this_release_either_goes_on_with_what_the_other_wrote(
        self, old: Server, tmp_path: Path, postgres: DatabaseUrls
    ):
        with Server(tmp_path, DATABASE_URL=postgres.api) as new:
            conversation_id = None
            for number, server in enumerate((old, new, old, new)):
                with account(server.url) as ann:
                    turn = say(ann, f"number {number}", conversation_id)
                    conversation_id = turn["conversation_id"]
                    read = ok(ann.get(f"/conversations/{conversation_id}"))
                    assert 2 * (number + 1) == len(read["messages"])

    async def test_a_column_that_it_needs_is_missed(self, old: Server, postgres: DatabaseUrls):
        """As a migration would that contracts too early: this is what the others would see."""
        async with connected(postgres.owner) as owner:
            await owner.execute("ALTER TABLE turns DROP COLUMN fingerprint")

        with pytest.raises(AssertionError, match='"status":5'):
            use(old)


class TestWhichItIs:
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        """Three commits with a tag each, the last of them where we are."""
        folder = tmp_path / "repository"
        git("init", "--quiet", str(folder), folder=tmp_path)
        git("config", "user.name", "Ann", folder=folder)
        git("config", "user.email", "ann@example.com", folder=folder)
        for tag in ("v0.9.0", "v0.10.0-rc1", "v0.10.0", "v0.11.0"):
            git("commit", "--quiet", "--allow-empty", "--message", tag, folder=folder)
            git("tag", tag, folder=folder)
        return folder

    def test_the_newest_release_that_is_not_this_commit(self, repository: Path):
        assert "v0.10.0" == before(repository)

        git("commit", "--quiet", "--allow-empty", "--message", "next", folder=repository)
        assert "v0.11.0" == before(repository)

    def test_a_clone_without_history_says_how_to_get_it(self, tmp_path: Path):
        shallow = ("clone", "--quiet", "--no-tags", "--depth=1", ROOT.as_uri())
        git(*shallow, str(tmp_path / "shallow"), folder=tmp_path)

        with pytest.raises(NoHistory, match="git fetch --unshallow --tags"):
            before(tmp_path / "shallow")
