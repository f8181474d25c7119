"""What is made of an answer that makes no sense, breaks off or never ends."""

import asyncio
import gzip
from io import StringIO

import pytest

from parley.core.errors import ModelError
from parley.services.responders.base import Fault
from parley.services.responders.openai import OpenAIResponder
from tests.integration.openai.listening import CANARY, PROMPT, TOLD, fault, text_of
from tests.model_server import (
    DONE,
    Endless,
    ModelServer,
    Then,
    answer,
    chunk,
    chunked,
    event,
    head,
    piece,
    reply,
)

MIB = 1024**2
PACKED = gzip.compress(b"".join(reply("x")[1:]))


class TestNonsense:
    @pytest.mark.parametrize(
        "script",
        [
            pytest.param([b"SSH-2.0-OpenSSH\r\n\r\n"], id="no HTTP"),
            pytest.param([Endless(b"X-Canary: " + b"x" * 1000)], id="an endless head"),
            pytest.param(answer("200 OK", b"<html>canary-4711", "text/html"), id="HTML"),
            pytest.param(answer("200 OK", TOLD), id="an error that says 200"),
            pytest.param(answer("200 OK", b'{"choices": []}'), id="no stream"),
            pytest.param(answer("200 OK", b""), id="nothing"),
            pytest.param([head()], id="an empty stream"),
            pytest.param([head(), DONE], id="done before it began"),
            pytest.param([head(), b"<html>canary-4711</html>"], id="HTML in a stream"),
            pytest.param([head(), b"data: canary-4711\n\n"], id="no JSON"),
            pytest.param([head(), b"data: " + b"[" * 100_000 + b"\n\n"], id="deep JSON"),
            pytest.param([head(), b'data: {"x": ' + b"9" * 5000 + b"}\n\n"], id="a long number"),
            pytest.param([head(), b"data: \xff\xfe\n\n"], id="no UTF-8"),
            pytest.param([head(Content_Encoding="gzip"), PACKED], id="gzip"),
            pytest.param([head(), b"data: " + TOLD + b"\n\n"], id="an error in the stream"),
            *(
                pytest.param([head(), event(data), *reply("x")[1:]], id=f"chunk {data}"[:40])
                for data in (
                    [],
                    "canary-4711",
                    7,
                    None,
                    {"choices": "canary-4711"},
                    {"choices": {"0": {}}},
                    {"choices": [7]},
                    {"choices": [{"delta": "x"}]},
                    {"choices": [{"delta": {"content": ["x"]}}]},
                    {"choices": [{"delta": {"content": 7}}]},
                    {"choices": [{"delta": {}, "finish_reason": "error"}]},
                )
            ),
        ],
    )
    async def test_what_makes_no_sense_is_an_error_and_not_repeated(
        self, server: ModelServer, responder: OpenAIResponder, logged: StringIO, script: list
    ):
        server.script = script

        said, error = await fault(responder)

        assert ("", ModelError) == (said, type(error))
        assert CANARY not in logged.getvalue()

    @pytest.mark.parametrize(
        "rest",
        [
            pytest.param([], id="the end of the connection"),
            pytest.param([DONE], id="done, and not finished"),
            pytest.param([Then.CUT], id="a reset"),
            pytest.param([b"data: {canary-4711\n\n"], id="garbage"),
            pytest.param([b"data: " + TOLD + b"\n\n", DONE], id="an error"),
            pytest.param([chunk({"delta": {}, "finish_reason": "abort"})], id="an abort"),
        ],
    )
    async def test_what_was_said_before_it_broke_off_was_said(
        self, server: ModelServer, responder: OpenAIResponder, rest: list
    ):
        gate = asyncio.Event()
        server.script = [head(), piece("half"), gate, *rest]
        stream = responder.stream(PROMPT, "stub-1")
        assert "half" == await anext(stream)
        gate.set()

        with pytest.raises(Fault) as caught:
            await anext(stream)

        assert isinstance(caught.value.error, ModelError)
        assert CANARY not in f"{caught.value} {caught.value.error.members}"

    async def test_a_chunked_body_that_is_cut_broke_off(
        self, server: ModelServer, responder: OpenAIResponder
    ):
        server.script = [head(Transfer_Encoding="chunked"), chunked(piece("half"))]

        said, error = await fault(responder)

        assert ("half", ModelError) == (said, type(error))


class TestBounds:
    """How much the server got rid of says how much was taken: sockets hold a few MiB."""

    @pytest.mark.parametrize(
        "endless",
        [
            pytest.param([b"data: ", Endless(b"x" * 65_536)], id="a line"),
            pytest.param([Endless(b"data: x\n" * 8192)], id="an event of lines"),
            pytest.param([Endless(b"data: x\r\n" * 8192)], id="an event of lines, as on Windows"),
            pytest.param([Endless(b"data: x\r" * 8192)], id="an event of lines, as on old Macs"),
            pytest.param([b": ", Endless(b"x" * 65_536)], id="a comment"),
        ],
    )
    async def test_an_event_without_end_is_not_heard_out(
        self, server: ModelServer, responder: OpenAIResponder, endless: list
    ):
        server.script = [head(), piece("half"), *endless]

        said, error = await fault(responder)

        assert ("half", ModelError) == (said, type(error))
        async with asyncio.timeout(60):
            await server.left.wait()
        assert server.sent < 16 * MIB

    @pytest.mark.parametrize("status", ["200 OK", "429 Too Many Requests", "500 Oops"])
    async def test_a_page_without_end_is_not_read(
        self, server: ModelServer, responder: OpenAIResponder, status: str
    ):
        server.script = [head(status, "text/html", Retry_After="7"), Endless(b"<p>\n\n" * 9999)]

        _, error = await fault(responder)

        assert (7 if status[:3] != "200" else None) == error.retry_after_seconds
        async with asyncio.timeout(60):
            await server.left.wait()
        assert server.sent < 16 * MIB

    async def test_a_long_stream_of_short_events_is_no_long_event(
        self, server: ModelServer, responder: OpenAIResponder
    ):
        many = piece("x" * 1000) * 3000
        server.script = [head(), many, *reply("end")[1:]]

        assert 3_000_003 == len(await text_of(responder))

    @pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
    async def test_nor_is_one_whose_line_ends_come_byte_by_byte(
        self, server: ModelServer, responder: OpenAIResponder, line_end: bytes
    ):
        long = chunked(piece("x" * 100_000).rstrip(b"\n"))
        ended = b"".join(chunked(bytes([byte])) for byte in line_end * 2)
        server.script = [
            head(Transfer_Encoding="chunked"),
            (long + ended) * 11,
            *map(chunked, [*reply("end")[1:], b""]),
        ]

        assert 1_100_003 == len(await text_of(responder))
