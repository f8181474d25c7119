"""HTTP itself, over real sockets against `parley serve`: security.md, rows 50 and 74 to 76."""

import json
import shutil
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from parley.cli.protocol import HEADERS_MAX
from tests.processes import SLOW_SERVER, Server, account, get, until
from tests.wire import Wire, answers, exchange

MEGABYTE = 1024**2
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /api/v1/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

MALFORMED = {
    "encoding and length": POST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length and encoding": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two length": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "one length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
    "length below 0": POST + b"Content-Length: -2\r\n\r\n{}",
    "length in hexadecimal": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "length beyond 64 bits": POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}",
    "an unknown encoding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "an encoding behind chunks": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "an encoding under chunks": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two encodings": POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "encoding behind a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "encoding with a space": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "encoding in 1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n",
    "bare LF": b"GET /health HTTP/1.1\nHost: localhost\n\n",
    "bare LF behind a header": GET + b"X: y\n\r\n",
    "bare CR": GET + b"X: y\rZ: a\r\n\r\n",
    "a folded line": GET + b"X: y\r\n z\r\n\r\n",
    "a folded first line": b"GET /health HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "a space in a name": GET + b"X Y: z\r\n\r\n",
    "no name": GET + b": z\r\n\r\n",
    "no colon": GET + b"XYZ\r\n\r\n",
    "NUL in a name": GET + b"X\0: z\r\n\r\n",
    "NUL in a value": GET + b"X: y\0z\r\n\r\n",
    "a name that is not ASCII": GET + "é: z\r\n\r\n".encode(),
    "a path that is not ASCII": "GET /é HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
    "a space in the path": b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a fragment": b"GET /health#x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a target for proxies": b"GET http://evil.test/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tunnel": b"CONNECT evil.test:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a target of no path": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP/1.2": b"GET /health HTTP/1.2\r\nHost: localhost\r\n\r\n",
    "HTTP/2.0": b"GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "an unknown method": b"HACK /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a method in small letters": b"get /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two Hosts": GET + b"Host: localhost\r\n\r\n",
    "no Host": b"GET /health HTTP/1.1\r\n\r\n",
    "a chunk of no size": CHUNKED + b"zz\r\n",
    "a chunk's size in C": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk's size below 0": CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "a chunk's size beyond 64 bits": CHUNKED + b"f" * 18 + b"\r\n{}\r\n0\r\n\r\n",
    "a chunk with bare LF": CHUNKED + b"2\n{}\n0\n\n",
    "an extension with bare LF": CHUNKED + b"2;a\nxx\r\n{}\r\n0\r\n\r\n",
    "a chunk with no end": CHUNKED + b"2\r\n{}0\r\n\r\n",
}
TOO_LARGE = {
    "one header": GET + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    "one that never ends": GET + b"X: " + b"y" * 400_000,
    "1,000 headers": GET + b"".join(b"X%d: y\r\n" % n for n in range(1000)) + b"\r\n",
    "101 headers": GET + b"X: y\r\n" * HEADERS_MAX + b"\r\n",
    "a name": GET + b"x" * 100_000 + b": y\r\n\r\n",
    "a path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path that never ends": b"GET /" + b"a" * 400_000,
    "empty lines that never end": b"\r\n" * 200_000,
    "a trailer": CHUNKED + b"0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    "a trailer that never ends": CHUNKED + b"0\r\nX: " + b"y" * 400_000,
    "an extension that never ends": CHUNKED + b"2;x=" + b"y" * 400_000,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def database_url(folder: Path, sqlite_template: Path) -> str:
    return f"sqlite:///{shutil.copy(sqlite_template, folder)}"


@pytest.fixture(scope="module")
def server(folder: Path, database_url: str) -> Generator[Server]:
    with Server(folder, DATABASE_URL=database_url, LOG_FORMAT="json") as server:
        yield server


@pytest.fixture(scope="module")
def impatient(folder: Path, database_url: str) -> Generator[Server]:
    """With bodies; it has its time for heads."""
    with Server(folder, DATABASE_URL=database_url, BODY_TIMEOUT_SECONDS="2") as server:
        yield server


@pytest.fixture(scope="module")
def hasty(folder: Path, database_url: str) -> Generator[Server]:
    times = {"TEST_HEAD_SECONDS": "1", "TEST_STALL_SECONDS": "1"}
    with Server(folder, *SLOW_SERVER, DATABASE_URL=database_url, **times) as server:
        yield server


def requests_in(server: Server) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in server.output.split("\n")[:-1] if line.startswith("{")]
    return [line for line in lines if line["logger"] == "parley.access"]


class TestMalformed:
    """Row 74."""

    @pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED)
    def test_it_is_400_and_what_follows_is_not_heard(self, server: Server, request_: bytes):
        (answer,) = exchange(server.port, request_ + SMUGGLED)

        assert (400, "malformed-request") == (answer.status, answer.code)
        assert "close" == answer.headers["connection"]
        assert "nosniff" == answer.headers["x-content-type-options"]

    def test_it_waits_its_turn_behind_a_request(self, server: Server):
        """Or it would be taken for the first one's answer."""
        first, second = exchange(server.port, GET + b"\r\nGARBAGE\r\n\r\n")

        assert (200, 400) == (first.status, second.status)

    def test_it_has_a_line_in_the_log_under_its_id(self, server: Server):
        (answer,) = exchange(server.port, GET + b"X-Request-ID: mine\r\nX: y\r\nX Y: z\r\n\r\n")

        assert "mine" == answer.headers["x-request-id"]
        until(lambda: any(line["request_id"] == "mine" for line in requests_in(server)))
        (line,) = [line for line in requests_in(server) if line["request_id"] == "mine"]
        assert ("GET", None, 400) == (line["method"], line["route"], line["status"])

    def test_garbage_has_no_method(self, server: Server):
        (answer,) = exchange(server.port, b"GARBAGE\r\n\r\n")
        name = answer.headers["x-request-id"]

        until(lambda: any(line["request_id"] == name for line in requests_in(server)))
        (line,) = [line for line in requests_in(server) if line["request_id"] == name]
        assert "" == line["method"]

    def test_what_comes_behind_the_body_is_no_header(self, server: Server):
        (answer,) = exchange(
            server.port,
            POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\n{}\r\n0\r\nX-Request-ID: trailer\r\nHost: evil.test\r\n\r\n",
        )

        assert 422 == answer.status
        assert "trailer" != answer.headers["x-request-id"]

    @pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
    def test_another_protocol_is_not_spoken_and_the_connection_ends(
        self, server: Server, protocol: bytes
    ):
        """What follows is not read: who waits for its answer would wait for ever."""
        upgrade = GET + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
        (answer,) = exchange(server.port, upgrade + SMUGGLED)

        assert (200, "close") == (answer.status, answer.headers["connection"])

    def test_http_1_0_is_answered_without_a_host(self, server: Server):
        (answer,) = exchange(server.port, b"GET /health HTTP/1.0\r\n\r\n")

        assert 200 == answer.status

    def test_several_requests_at_once_are_answered_in_turn(self, server: Server):
        last = GET + b"Connection: close\r\n\r\n"
        found = exchange(server.port, (GET + b"\r\n") * 3 + SMUGGLED + last)

        assert [200, 200, 200, 404, 200] == [answer.status for answer in found]


class TestHeaders:
    """Row 75."""

    @pytest.mark.parametrize("request_", TOO_LARGE.values(), ids=TOO_LARGE)
    def test_too_much_of_them_is_431(self, server: Server, request_: bytes):
        (answer,) = exchange(server.port, request_)

        assert (431, "headers-too-large") == (answer.status, answer.code)
        assert "close" == answer.headers["connection"]

    def test_as_many_as_a_browser_sends_are_not(self, server: Server):
        many = b"".join(b"X%d: y\r\n" % n for n in range(HEADERS_MAX - 3))
        large = b"Cookie: " + b"y" * 30_000 + b"\r\n"
        (answer,) = exchange(server.port, GET + many + large + b"Connection: close\r\n\r\n")

        assert 200 == answer.status

    def test_a_body_does_not_count(self, server: Server):
        half = b'{"x":"' + b"y" * 400_000
        first, second = exchange(
            server.port,
            POST + b"Content-Length: 400008\r\n\r\n" + half + b'"}',
            GET + b"Connection: close\r\n\r\n",
        )

        assert (422, 200) == (first.status, second.status)

    def test_who_sends_more_before_reading_is_told_all_the_same(self, server: Server):
        """A connection that is reset would lose the answer."""
        (answer,) = exchange(server.port, GET + b"X: " + b"y" * 8 * MEGABYTE)

        assert 431 == answer.status

    def test_memory_does_not_grow_with_them(self, server: Server):
        exchange(server.port, GET + b"X: " + b"y" * 8 * MEGABYTE)
        before = peak_bytes(server)
        with ExitStack() as stack:
            wires = [stack.enter_context(Wire(server.port)) for _ in range(10)]
            for wire in wires:
                wire.send(GET + b"X: " + b"y" * 8 * MEGABYTE)
            assert [431] * 10 == [answers(wire.rest())[0].status for wire in wires]

        assert peak_bytes(server) - before < 20 * MEGABYTE


class TestSlowness:
    """Row 76."""

    def test_600_slow_bodies_keep_nobody_from_being_answered_and_end(self, impatient: Server):
        slow = POST + b'Content-Length: 100\r\n\r\n{"email": '
        with ExitStack() as stack:
            wires = []
            for _ in range(600):
                wires.append(stack.enter_context(Wire(impatient.port)))
                wires[-1].send(slow)

            assert 200 == get(f"{impatient.url}/health").status_code
            ends = [answers(wire.rest()) for wire in wires]

        assert [("body-timeout", "close")] * 600 == [
            (answer.code, answer.headers["connection"]) for (answer,) in ends
        ]

    def test_a_body_that_comes_byte_by_byte_is_slow_too(self, impatient: Server):
        with Wire(impatient.port) as wire:
            wire.send(POST + b"Content-Length: 1000\r\n\r\n")
            wire.drip(b" ")
            (answer,) = answers(wire.rest())

        assert (408, "body-timeout") == (answer.status, answer.code)

    def test_a_body_that_nobody_reads_is_not_waited_for_either(self, impatient: Server):
        with Wire(impatient.port) as wire:
            wire.send(GET + b"Content-Length: 1000\r\n\r\n")
            (answer,) = answers(wire.rest())

        assert (200, "close") == (answer.status, answer.headers["connection"])

    @pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nX: ", b"\r\n"])
    def test_who_sends_no_request_is_hung_up_on(self, hasty: Server, sent: bytes):
        with Wire(hasty.port) as wire:
            wire.send(sent)

            assert b"" == wire.rest()

    @pytest.mark.parametrize("drop", [b"X: y\r\n", b"y", b"\r\n"])
    def test_who_sends_one_drop_by_drop_is_too(self, hasty: Server, drop: bytes):
        with Wire(hasty.port) as wire:
            if drop != b"\r\n":
                wire.send(GET)
            wire.drip(drop)

            assert b"" == wire.rest()

    @pytest.mark.parametrize("sent", [b"GET /health", b"\r\n"])
    def test_a_second_request_has_no_more_time(self, hasty: Server, sent: bytes):
        with Wire(hasty.port) as wire:
            wire.send(GET + b"\r\n")
            assert 200 == wire.answer().status
            wire.send(sent)

            assert b"" == wire.rest()

    def test_a_running_answer_is_not_cut_for_what_follows_it(self, hasty: Server, folder: Path):
        with account(hasty.url) as client, Wire(hasty.port) as wire:
            body = b'{"message":"hi"}'
            wire.send(
                b"POST /api/v1/me/chat HTTP/1.1\r\nHost: localhost\r\nAuthorization: "
                + client.headers["Authorization"].encode()
                + b"\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n"
                + body,
                GET,  # and no end
            )
            with Wire(hasty.port) as later:
                assert b"" == later.rest()  # so the time is over
            (folder / "go").touch()

            assert b"first re: hi" in wire.rest()

    def test_who_asks_and_does_not_read_is_cut_off(self, hasty: Server):
        """Or the answers would stay in memory for as long as they like."""
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with ExitStack() as stack:
            wires = [stack.enter_context(Wire(hasty.port, window_bytes=4096)) for _ in range(10)]
            for wire in wires:
                wire.send(request * 400)

            until(lambda: all(wire.is_cut_off() for wire in wires))
        assert 200 == get(f"{hasty.url}/health").status_code
        assert "request-crashed" not in hasty.output
        assert "Exception in ASGI application" not in hasty.output


class TestBodies:
    """Row 50; through the application, tests/integration/test_bad_input.py has more of it."""

    @pytest.mark.parametrize("has_length", [True, False])
    def test_memory_does_not_grow_with_them(self, server: Server, *, has_length: bool):
        piece = b" " * MEGABYTE
        length = b"Content-Length: 10485760" if has_length else b"Transfer-Encoding: chunked"
        framed = piece if has_length else b"100000\r\n" + piece + b"\r\n"
        end = b"" if has_length else b"0\r\n\r\n"
        request = POST + b"Connection: close\r\n" + length + b"\r\n\r\n" + framed * 10 + end
        assert [413] == [answer.status for answer in exchange(server.port, request)]
        before = peak_bytes(server)
        for _ in range(10):
            (answer,) = exchange(server.port, request)
            assert "body-too-large" == answer.code

        assert peak_bytes(server) - before < 5 * MEGABYTE

    def test_one_without_end_is_hung_up_on(self, server: Server):
        with Wire(server.port) as wire:
            wire.send(CHUNKED)
            wire.send_until_refused(b"100000\r\n" + b" " * MEGABYTE + b"\r\n")

        assert 200 == get(f"{server.url}/health").status_code


def peak_bytes(server: Server) -> int:
    (worker,) = server.workers()
    status = Path(f"/proc/{worker}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


class TestHangingUp:
    def test_the_request_that_runs_is_told_whatever_was_sent_behind_it(self, server: Server):
        """Else it writes on to nobody, which the log would call a bug."""
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for _ in range(3):
            before = len(requests_in(server))
            with Wire(server.port) as wire:
                wire.send(request * 400)
                until(lambda: len(requests_in(server)) > before + 10)  # noqa: B023 - called here
                wire.reset()
        before = len(requests_in(server))
        assert 200 == get(f"{server.url}/openapi.json").status_code

        until(lambda: len(requests_in(server)) > before)
        assert "request-crashed" not in server.output
        assert "Exception in ASGI application" not in server.output
