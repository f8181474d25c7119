import re
import sys
from contextlib import suppress
from time import sleep
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx2
import typer

from parley.cli.saying import Saying

CONNECT_SECONDS = 5.0
# Parley sends a comment every 15 s while a reply is on its way.
SILENCE_SECONDS = 60.0
# How often a connection is made again, and how soon: long enough for a server that is restarted.
TRIES = 20
PAUSE_SECONDS = 0.5
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Refused(Exception):
    """Parley did not do it; the message says why, and `code` is the problem's."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


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
        self._conversation_id: str | None = None
        self._refresh_token: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._refresh_token is not None:
            with suppress(httpx2.HTTPError):
                self._http.post("/auth/logout", json={"refresh_token": self._refresh_token})
        self._http.close()

    def open_session(self, email: str | None) -> None:
        """
        Log in, or open an account.

        Raises:
            Refused: neither.
        """
        email = email or typer.prompt("E-mail")
        # Read from a pipe there is nothing to hide, and no terminal to hide it on.
        password = typer.prompt("Password", hide_input=sys.stdin.isatty())
        credentials: dict[str, str | None] = {"email": email, "password": password}
        try:
            self._authenticate("login", credentials)
        except Refused as refused:
            wrong = refused.code == "invalid-credentials"
            if not (wrong and typer.confirm(f"{refused} Open one with it?")):
                raise
            self._authenticate("register", credentials)

    def _authenticate(self, action: str, proof: dict[str, str | None]) -> None:
        session = self._send("POST", f"/auth/{action}", json=proof)
        self._refresh_token = session["refresh_token"]
        self._http.headers["Authorization"] = f"Bearer {session['access_token']}"

    def talk(self, conversation: UUID | None, *, last: bool) -> None:
        """Until the input ends or says `/quit`; `/new` starts another conversation."""
        if last:
            newest = self._send("GET", "/conversations", params={"limit": 1})["items"]
            conversation = newest[0]["id"] if newest else None
        if conversation is not None:
            self._show(str(conversation))
        typer.echo("Type a message; /new starts another conversation, /quit ends.")
        while (message := self._next_message()) is not None:
            if message == "/new":
                self._conversation_id = None
            elif message:
                self._say(message)

    def _show(self, conversation_id: str) -> None:
        detail = self._send("GET", f"/conversations/{conversation_id}")
        self._conversation_id = conversation_id
        typer.echo(f"{_harmless(detail['title'])}\n")
        for message in detail["messages"]:
            mark = "> " if message["role"] == "user" else ""
            typer.echo(f"{mark}{_harmless(message['content'])}")

    def _next_message(self) -> str | None:
        try:
            # What is typed in another encoding is shown as such rather than refused.
            message = input("> ").strip().encode(errors="replace").decode()
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return None
        return None if message == "/quit" else message

    def _say(self, message: str) -> None:
        """A connection that breaks is made again; Ctrl-C ends the reply with what there is."""
        saying = Saying(self._http, {"message": message, "conversation_id": self._conversation_id})
        for _ in range(TRIES):
            try:
                for event, data in saying.events():
                    self._on_event(event, data)
                if saying.has_ended:
                    return
            except httpx2.HTTPStatusError as refused:
                if refused.response.status_code != httpx2.codes.UNAUTHORIZED:
                    typer.echo(str(_refusal(refused.response)), err=True)
                    return
                self._authenticate("refresh", {"refresh_token": self._refresh_token})
            except httpx2.HTTPError:
                sleep(PAUSE_SECONDS)
            except KeyboardInterrupt:
                saying.cancel()
        typer.echo(
            "\nThe connection broke, and nothing answers. The turn may have been recorded.",
            err=True,
        )

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
        try:
            response = self._http.request(method, path, **content)
        except httpx2.HTTPError as error:
            msg = f"Nothing answers at {self._base_url}: is Parley running? (`make run`)"
            raise Refused(msg) from error
        if response.is_error:
            raise _refusal(response)
        return response.json()


def _harmless(text: str) -> str:
    """Without the control characters by which a terminal is steered, its clipboard among it."""
    return _STEERING.sub("\ufffd", text)


def _refusal(response: httpx2.Response) -> Refused:
    try:
        problem = response.json()
        # The detail of a problem with faults is for who writes a client.
        faults = [f"{e['location'][-1]}: {e['message']}." for e in problem.get("errors", [])]
        why = " ".join([f"{problem['title']}.", *(faults or [problem["detail"]])])
        return Refused(why, problem["code"])
    except (ValueError, KeyError, TypeError):
        return Refused(f"HTTP {response.status_code}: is this Parley?")
