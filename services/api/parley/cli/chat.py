import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from time import sleep
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx2
import typer

from parley.cli.refusals import PAUSE_SECONDS, Refused, refusal_of
from parley.cli.saying import Saying
from parley.cli.session import Session

CONNECT_SECONDS = 5.0
# Parley sends a comment every 15 s while a reply is on its way.
SILENCE_SECONDS = 60.0
# How often a connection is made again: with its pauses, long enough for a server that is restarted.
TRIES = 60
COMMANDS = """\
Type a message; Ctrl-C ends its reply.
/again asks for the last reply anew, /new begins a conversation, /quit ends.\
"""
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Terminal:
    """A conversation over HTTP, as any other client has it."""

    def __init__(self, base_url: str) -> None:
        """
        Raises:
            Refused: it is no URL of a server.
        """
        if not base_url.startswith(("http://", "https://")):
            msg = f"{base_url} is no URL: begin it with http:// or https://"
            raise Refused(msg)
        base_url = base_url.rstrip("/")
        self._base_url = base_url
        self._http = httpx2.Client(
            base_url=f"{base_url}/api/v1",
            timeout=httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        )
        self._session: Session | None = None
        self._conversation_id: str | None = None
        self._saying: Saying | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            with suppress(httpx2.HTTPError):
                self._http.post("/auth/logout", json=self._session.proof)
        self._http.close()

    def open_session(self, email: str | None) -> None:
        """
        Log in, or open an account.

        Raises:
            Refused: neither.
        """
        # Whatever the answer is: a proxy may keep this path to itself.
        self._ask("GET", f"{self._base_url}/health")
        email = email or typer.prompt("E-mail")
        # Read from a pipe there is nothing to hide, and no terminal to hide it on.
        password = typer.prompt("Password", hide_input=sys.stdin.isatty())
        credentials = {"email": email, "password": password}
        try:
            self._authenticate("login", credentials)
        except Refused as refused:
            wrong = refused.code == "invalid-credentials"
            if not (wrong and typer.confirm(f"{refused} Open one with it?")):
                raise
            self._authenticate("register", credentials)

    def _authenticate(self, action: str, credentials: dict[str, str]) -> None:
        tokens = self._send("POST", f"/auth/{action}", json=credentials)
        self._http.auth = self._session = Session(f"{self._http.base_url}auth/refresh", tokens)

    def talk(self, conversation: UUID | None, *, last: bool) -> None:
        """Until the input ends or says `/quit`."""
        if last:
            newest = self._send("GET", "/conversations", params={"limit": 1})["items"]
            conversation = newest[0]["id"] if newest else None
        running = None if conversation is None else self._show(str(conversation))
        typer.echo(COMMANDS)
        if running is not None:
            typer.echo(f"> {_harmless(running['message']['content'])}")
            with _refusals_said():
                self._follow(Saying(self._http, turn_id=running["id"]))
        while (typed := self._next_message()) is not None:
            with _refusals_said():
                self._do(typed)

    def _show(self, conversation_id: str) -> dict[str, Any] | None:
        """Returns the turn that is being answered."""
        detail = self._send("GET", f"/conversations/{conversation_id}")
        self._conversation_id = conversation_id
        typer.echo(f"{_harmless(detail['title'])}\n")
        for message in detail["messages"]:
            mark = "> " if message["role"] == "user" else ""
            typer.echo(f"{mark}{_harmless(message['content'])}")
        running: dict[str, Any] | None = detail["running_turn"]
        return running

    def _do(self, typed: str) -> None:
        match typed:
            case "":
                pass
            case "/new":
                self._conversation_id = self._saying = None
            case "/again":
                self._say_again()
            case _:
                self._say(typed)

    def _next_message(self) -> str | None:
        try:
            # What is typed in another encoding is shown as such rather than refused.
            message = input("> ").strip().encode(errors="replace").decode()
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return None
        return None if message == "/quit" else message

    def _say(self, message: str) -> None:
        body = {"message": message, "conversation_id": self._conversation_id}
        self._follow(Saying(self._http, "/me/chat", body))

    def _say_again(self) -> None:
        """What was never answered is said again; else the last reply is made anew."""
        last = self._saying
        if last is not None and not last.has_ended:
            self._follow(last)
            return
        if last is not None:
            turn = self._send("GET", f"/turns/{last.turn_id}")
            if not {"reply", "replaces"} & turn.keys():
                self._say(turn["message"]["content"])
                return
        if self._conversation_id is None:
            typer.echo("There is nothing to answer again yet.")
            return
        self._follow(Saying(self._http, f"/conversations/{self._conversation_id}/regenerate", {}))

    def _follow(self, saying: Saying) -> None:
        """A connection that breaks is made again; Ctrl-C ends the reply with what there is."""
        self._saying = saying
        for _ in range(TRIES):
            try:
                pause_seconds = self._read(saying)
                if saying.has_ended:
                    return
                sleep(pause_seconds)
            except KeyboardInterrupt:
                if not _is_cancelled(saying):
                    break
        typer.echo(
            "\nNothing more comes. The turn may have been recorded; /again asks for it once more.\n",
            err=True,
        )

    def _read(self, saying: Saying) -> float:
        """
        Returns after how many seconds to go on, if that was not the end.

        Raises:
            Refused: there is no going on.
        """
        try:
            for event, data in saying.events():
                self._on_event(event, data)
        except httpx2.HTTPStatusError as error:
            return _pause_seconds(saying, refusal_of(error.response))
        except httpx2.HTTPError:
            pass
        return PAUSE_SECONDS

    def _on_event(self, event: str, data: dict[str, Any]) -> None:
        match event:
            case "turn":
                self._conversation_id = data["conversation_id"]
            case "delta":
                typer.echo(_harmless(data["text"]), nl=False)
            case "done":
                typer.echo("\n")
            case "error":
                typer.echo(f"\n{data['title']}. {data['detail']}\n", err=True)
            case _:
                pass

    def _send(self, method: str, path: str, **content: Any) -> Any:
        answer = self._ask(method, path, **content)
        with suppress(ValueError):
            if answer.is_success:
                return answer.json()
        raise refusal_of(answer)

    def _ask(self, method: str, path: str, **content: Any) -> httpx2.Response:
        try:
            return self._http.request(method, path, **content)
        except httpx2.HTTPError as error:
            msg = f"Nothing answers at {self._base_url}: is Parley running? (`make run`)"
            raise Refused(msg) from error


@contextmanager
def _refusals_said() -> Iterator[None]:
    """What is typed next may do better, unless nobody is logged in any more."""
    try:
        yield
    except Refused as refused:
        if refused.status == HTTPStatus.UNAUTHORIZED:
            raise
        typer.echo(f"\n{refused}\n", err=True)


def _pause_seconds(saying: Saying, refused: Refused) -> float:
    if refused.code == "turn-in-progress":
        if not saying.waits:
            typer.echo("Another message is being answered; this one is next.", err=True)
        saying.wait()
        return PAUSE_SECONDS
    if refused.pause_seconds is None:
        raise refused
    return refused.pause_seconds


def _is_cancelled(saying: Saying) -> bool:
    """Not where nobody answers, or Ctrl-C comes again."""
    try:
        return saying.cancel()
    except (httpx2.HTTPError, KeyboardInterrupt):
        return False


def _harmless(text: str) -> str:
    """Without the control characters by which a terminal is steered, its clipboard among it."""
    return _STEERING.sub("\ufffd", text)
