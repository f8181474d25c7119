"""What is made of a server that is not there, or takes nothing."""

import asyncio
from contextlib import suppress
from email.utils import formatdate
from io import StringIO
from time import time

import pytest

from parley.core.errors import AppError, ModelError, ModelUnavailable
from parley.services.responders.base import Fault
from parley.services.responders.openai import OpenAIResponder, client
from tests.integration.openai.listening import CANARY, TOLD, fault, listen
from tests.model_server import (
    ModelServer,
    Then,
    answer,
)


class TestRefusal:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            ("301 Moved Permanently", ModelUnavailable),
            ("307 Temporary Redirect", ModelUnavailable),
            ("400 Bad Request", ModelError),
            ("401 Unauthorized", ModelUnavailable),
            ("402 Payment Required", ModelUnavailable),
            ("403 Forbidden", ModelUnavailable),
            ("404 Not Found", ModelUnavailable),
            ("408 Request Timeout", ModelUnavailable),
            ("413 Content Too Large", ModelError),
            ("418 I'm a teapot", ModelError),
            ("422 Unprocessable Content", ModelError),
            ("429 Too Many Requests", ModelUnavailable),
            ("500 Internal Server Error", ModelUnavailable),
            ("503 Service Unavailable", ModelUnavailable),
        ],
    )
    async def test_a_status_has_one_meaning_and_its_text_goes_nowhere(
        self,
        server: ModelServer,
        responder: OpenAIResponder,
        logged: StringIO,
        status: str,
        error: type[AppError],
    ):
        server.script = answer(
            f"{status} {CANARY}", TOLD, Location=f"{server.url}/{CANARY}", X_Request_ID=CANARY
        )

        with pytest.raises(Fault) as caught:
            await listen(responder)

        assert error is type(caught.value.error)
        assert f"status {status[:3]}" in str(caught.value)
        told = f"{caught.value} {caught.value.error.members} {logged.getvalue()}"
        assert CANARY not in told
        assert "sk-secret" not in told
        assert (2 if error is ModelError and status[:3] in {"400", "422"} else 1) == len(
            server.asked
        )

    @pytest.mark.parametrize(
        ("status", "advice"),
        [
            ("307 Temporary Redirect", "whoever runs this server has to look at it."),
            ("400 Bad Request", "Shorten the message, or begin a new conversation."),
            ("401 Unauthorized", "whoever runs this server has to look at it."),
            ("402 Payment Required", "whoever runs this server has to look at it."),
            ("403 Forbidden", "whoever runs this server has to look at it."),
            ("404 Not Found", "whoever runs this server has to look at it."),
            ("422 Unprocessable Content", "Shorten the message, or begin a new conversation."),
            ("429 Too Many Requests", "Try again shortly."),
            ("500 Internal Server Error", "Try again shortly."),
        ],
    )
    async def test_who_is_refused_is_told_what_helps(
        self, server: ModelServer, responder: OpenAIResponder, status: str, advice: str
    ):
        server.script = answer(status, TOLD)

        _, error = await fault(responder)

        assert str(error).endswith(advice)

    @pytest.mark.parametrize(
        ("said", "seconds"),
        [
            ("7", {7}),
            ("0", {1}),
            ("-5", range(1, 6)),
            ("86400", {3600}),
            ("9" * 5000, range(1, 6)),
            ("soon", range(1, 6)),
            ("Fri, 31 Dec 99999 23:59:59 GMT", range(1, 6)),
            ("", range(1, 6)),
        ],
    )
    async def test_when_to_try_again_is_passed_on_within_an_hour(
        self, server: ModelServer, responder: OpenAIResponder, said: str, seconds: range
    ):
        server.script = answer("429 Too Many Requests", TOLD, Retry_After=said)

        _, error = await fault(responder)

        assert error.retry_after_seconds in seconds

    @pytest.mark.parametrize(
        ("later", "seconds"), [(-60, {1}), (600, range(500, 601)), (86_400, {3600})]
    )
    async def test_it_may_be_a_date(
        self, server: ModelServer, responder: OpenAIResponder, later: int, seconds: range
    ):
        date = formatdate(time() + later, usegmt=True)
        server.script = answer("429 Too Many Requests", TOLD, Retry_After=date)

        _, error = await fault(responder)

        assert error.retry_after_seconds in seconds

    async def test_without_a_word_of_when_it_is_soon(
        self, server: ModelServer, responder: OpenAIResponder
    ):
        server.script = answer("429 Too Many Requests", TOLD)

        _, error = await fault(responder)

        assert error.retry_after_seconds in range(1, 6)

    async def test_who_is_not_there_is_unavailable(
        self, server: ModelServer, responder: OpenAIResponder
    ):
        await server.stop()

        assert isinstance((await fault(responder))[1], ModelUnavailable)

    async def test_a_name_that_leads_nowhere_is_unavailable(self):
        responder = OpenAIResponder(base_url="http://no-such-host.invalid/v1", api_key=None)

        assert isinstance((await fault(responder))[1], ModelUnavailable)
        await responder.close()

    @pytest.mark.parametrize("first", [b"220 canary-4711\r\n", b""])
    async def test_who_speaks_no_tls_is_unavailable(
        self, first: bytes, monkeypatch: pytest.MonkeyPatch
    ):
        """Neither who says something else, nor who says nothing."""
        if not first:
            monkeypatch.setattr(client, "CONNECT_SECONDS", 1)
        gone = asyncio.Event()

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(first)
            with suppress(ConnectionError):
                await reader.read()
            writer.close()
            gone.set()

        plain = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = plain.sockets[0].getsockname()[1]
        responder = OpenAIResponder(base_url=f"https://127.0.0.1:{port}", api_key=None)

        assert isinstance((await fault(responder))[1], ModelUnavailable)
        await responder.close()
        await gone.wait()
        plain.close()

    @pytest.mark.parametrize("script", [[Then.CUT], [], [b"HTTP/1.1 200 OK\r\nContent-"]])
    async def test_who_hangs_up_before_answering_is_unavailable(
        self, server: ModelServer, responder: OpenAIResponder, script: list
    ):
        server.script = script

        assert isinstance((await fault(responder))[1], ModelUnavailable)
