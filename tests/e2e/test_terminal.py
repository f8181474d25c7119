"""`parley chat` as somebody types in it, while things go wrong."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.e2e.front import Cut, Front, problem
from tests.processes import PASSWORD, PATIENCE_SECONDS, SLOW_SERVER, Server, account, say, until

TURN = {"turn_id": "t1", "conversation_id": "c1"}


class Chatting:
    """The program, its two outputs as one; `read` takes what it says up to some words."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def type(self, line: str) -> Self:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self

    def read(self, up_to: str) -> str:
        assert self._process.stdout is not None
        read = ""
        while not read.endswith(up_to):
            more = self._process.stdout.read(1)
            assert more, f"It ended with: {read}"
            read += more
        return read

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> str:
        rest, _ = self._process.communicate()
        assert 0 == self._process.returncode, rest
        return rest


@contextmanager
def chatting(folder: Path, url: str, *options: str) -> Generator[Chatting]:
    """Somebody who has logged in, with the account of `account`."""
    with subprocess.Popen(
        [sys.executable, "-m", "parley.cli", "chat", "--email", "ann@example.com", "--url", url,
         *options],
        cwd=folder, text=True, env=os.environ.copy(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        # What never comes is not waited for: the program ends, and what it had said is shown.
        patience = threading.Timer(3 * PATIENCE_SECONDS, process.kill)
        patience.start()
        try:
            yield Chatting(process).type(PASSWORD)
        finally:
            patience.cancel()
            process.kill()


@pytest.fixture
def server(tmp_path: Path, sqlite_url: str) -> Generator[Server]:
    with Server(tmp_path, *SLOW_SERVER, DATABASE_URL=sqlite_url) as server:
        yield server


@pytest.fixture
def ann(server: Server) -> Generator[httpx.Client]:
    with account(server.url) as client:
        yield client


def begin(client: httpx.Client, message: str, conversation_id: str | None = None) -> str:
    """Returns the id of the conversation in which a turn runs now."""
    body = {"message": message, "conversation_id": conversation_id, "stream": True}
    with client.stream("POST", "/me/chat", json=body) as reply:
        data = next(line for line in reply.iter_lines() if line.startswith("data: "))
    return str(json.loads(data.removeprefix("data: "))["conversation_id"])


class TestComingBack:
    def test_a_reply_on_its_way_is_shown_from_its_start_and_goes_on(
        self, tmp_path: Path, server: Server, ann: httpx.Client
    ):
        begin(ann, "one")
        with chatting(tmp_path, server.url, "--last") as chat:
            chat.read("> one\nfirst ")
            (tmp_path / "go").touch()
            chat.read("re: one\n\n> ")
            chat.type("two").read("first re: two")
            chat.type("/quit").end()

    def test_ctrl_c_ends_it(self, tmp_path: Path, server: Server, ann: httpx.Client):
        conversation_id = begin(ann, "one")
        with chatting(tmp_path, server.url, "--conversation", conversation_id) as chat:
            chat.read("> one\nfirst ")
            chat.interrupt()
            chat.read("\n\n> ")
            chat.type("/quit").end()
        detail = ann.get(f"/conversations/{conversation_id}").json()
        assert [("one", "complete"), ("first ", "cancelled")] == [
            (message["content"], message["status"]) for message in detail["messages"]
        ]


class TestTokenThatHasRunOut:
    @pytest.fixture
    def server(self, tmp_path: Path, sqlite_url: str) -> Generator[Server]:
        # What replaces it is to be there in its time.
        variables = {"AUTH_ACCESS_TOKEN_SECONDS": "6", "LOG_FORMAT": "json"}
        with Server(tmp_path, *SLOW_SERVER, DATABASE_URL=sqlite_url, **variables) as server:
            yield server

    def wait(self, server: Server) -> None:
        with account(server.url) as younger:
            until(lambda: younger.get("/auth/me").status_code == 401)

    def test_it_is_renewed(self, tmp_path: Path, server: Server, ann: httpx.Client):
        (tmp_path / "go").touch()
        with chatting(tmp_path, server.url) as chat:
            chat.read("/quit")
            for message in ("one", "two"):
                self.wait(server)
                chat.type(message).read(f"re: {message}\n\n> ")
            chat.type("/quit").end()
        # A server writes its lines behind its answers, in their order.
        until(lambda: '"signed-out"' in server.output)
        # One session, which went on and was ended, beside those of the younger ones.
        counts = [server.output.count(f'"{event}"') for event in ("signed-in", "signed-out")]
        assert [3, 1] == counts

    def test_ctrl_c_ends_a_reply_all_the_same(
        self, tmp_path: Path, server: Server, ann: httpx.Client
    ):
        with chatting(tmp_path, server.url) as chat:
            chat.type("one").read("first ")
            self.wait(server)
            chat.interrupt()
            assert "Nothing more comes" not in chat.read("\n\n> ")
            chat.type("/quit").end()


class TestNobodyAnswers:
    def test_a_server_that_is_killed_and_comes_back_is_asked_what_became_of_the_turn(
        self, tmp_path: Path, server: Server, ann: httpx.Client
    ):
        with chatting(tmp_path, server.url) as chat:
            chat.type("one").read("first ")
            chat.interrupt()
            chat.read("\n\n> ")
            chat.type("two").read("first ")
            server.kill()
            server.start()
            chat.read("is gone")
            (tmp_path / "go").touch()
            chat.type("three").read("first re: three\n\n> ")
            chat.type("/quit").end()

    def test_ctrl_c_comes_back_to_the_prompt_and_again_goes_on_from_there(
        self, tmp_path: Path, server: Server, ann: httpx.Client
    ):
        with chatting(tmp_path, server.url) as chat:
            chat.type("one").read("first ")
            server.kill()
            chat.interrupt()
            assert "Traceback" not in chat.read("may have been recorded; /again asks")
            chat.read("\n\n> ")
            server.start()
            # The turn of the process that was killed, and then its message once more.
            chat.type("/again").read("is gone")
            (tmp_path / "go").touch()
            chat.type("/again").read("first re: one\n\n> ")
            chat.type("/quit").end()

    def test_it_is_said_before_a_password_is_asked_for(self, tmp_path: Path, server: Server):
        server.stop()
        nobody = subprocess.run(
            [sys.executable, "-m", "parley.cli", "chat", "--url", server.url],
            cwd=tmp_path, input="", capture_output=True, text=True, check=False,
        )  # fmt: skip

        assert (1, "") == (nobody.returncode, nobody.stdout)
        assert "is Parley running?" in nobody.stderr


class TestAgain:
    def test_the_last_reply_is_made_anew_in_the_place_of_the_old_one(
        self, tmp_path: Path, server: Server, ann: httpx.Client
    ):
        (tmp_path / "go").touch()
        with chatting(tmp_path, server.url) as chat:
            chat.type("/again").read("nothing to answer again yet.")
            chat.type("one").read("re: one\n\n> ")
            chat.type("/again").read("first re: one\n\n> ")
            chat.type("/quit").end()
        (conversation,) = ann.get("/conversations").json()["items"]
        messages = f"/conversations/{conversation['id']}/messages"
        counts = [
            len(ann.get(messages, params={"superseded": superseded}).json()["items"])
            for superseded in (False, True)
        ]
        assert [2, 4] == counts


class TestBusy:
    def test_a_message_waits_for_another_one_and_says_so(
        self, tmp_path: Path, server: Server, ann: httpx.Client
    ):
        (tmp_path / "go").touch()
        conversation_id = say(ann, "one")["conversation_id"]
        (tmp_path / "go").unlink()
        with chatting(tmp_path, server.url, "--last") as chat:
            chat.read("/quit")
            begin(ann, "elsewhere", conversation_id)
            chat.type("two").read("Another message is being answered; this one is next.")
            (tmp_path / "go").touch()
            chat.read("first re: two\n\n> ")
            chat.type("/quit").end()


class TestWhatAProxySays:
    def talk(self, folder: Path, front: Front, *lines: str) -> str:
        with chatting(folder, front.url) as chat:
            for line in lines:
                chat.type(line)
            return chat.type("/quit").end()

    def test_a_server_that_restarts_is_asked_again_with_the_same_key(self, tmp_path: Path):
        chat = [
            (502, b"<html>", {}),
            (503, problem("draining"), {"Retry-After": "0"}),
            [("turn", TURN), ("delta", {"text": "one "}), Cut],
        ]
        reading = [(504, b"", {}), [("delta", {"text": "two"}), ("done", _done("one two"))]]
        with Front(chat=chat, events=reading) as front:
            said = self.talk(tmp_path, front, "hello")

            assert "> one two\n\n> " in said
            keys = [head["Idempotency-Key"] for path, head in front.asked if path == "/me/chat"]
        assert (3, 1) == (len(keys), len(set(keys)))

    def test_the_end_of_a_turn_is_shown_and_not_asked_for_again(self, tmp_path: Path):
        ended = problem("model-unavailable", turn_id="t1")
        with Front(chat=[(503, ended, {"Retry-After": "0"})]) as front:
            said = self.talk(tmp_path, front, "hello")

            assert 1 == [path for path, _ in front.asked].count("/me/chat")
        assert "The title. The detail." in said

    def test_pieces_that_were_lost_are_shown_from_the_end(self, tmp_path: Path):
        chat: list[Any] = [[("turn", TURN), ("delta", {"text": "one "}), Cut]]
        with Front(chat=chat, events=[[("done", _done("one two"))]]) as front:
            assert "> one two\n\n> " in self.talk(tmp_path, front, "hello")

    def test_a_page_in_the_place_of_an_answer_is_none_of_parleys(self, tmp_path: Path):
        with (
            Front(login=(200, b"<html>", {})) as front,
            chatting(tmp_path, front.url) as chat,
        ):
            assert "Traceback" not in chat.read("HTTP 200: is this Parley?")

    def test_no_letter_ends_a_line_of_the_stream(self, tmp_path: Path):
        text = "one\u2028two\u0085three"
        chat: list[Any] = [[("turn", TURN), ("delta", {"text": text}), ("done", _done(text))]]
        with Front(chat=chat) as front:
            assert "> one\u2028two\ufffdthree\n\n> " in self.talk(tmp_path, front, "hello")


def _done(content: str) -> dict[str, Any]:
    return TURN | {"reply": {"content": content}}
