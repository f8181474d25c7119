"""OpenAI's library, kept to our settings and to bounds: by itself it has neither."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2
from httpcore2 import AsyncHTTP11Connection
from openai import AsyncOpenAI
from openai._streaming import ServerSentEvent, SSEDecoder

from parley import __version__

OPENAI_URL = "https://api.openai.com/v1"
CONNECT_SECONDS = 5
# uvicorn, and so vLLM, hangs up after 5 s: what is kept for less is never found hung up.
KEEP_SECONDS = 4
HELD_MAX_BYTES = 1024**2
_EVENT_END = re.compile(rb"\n\r?\n|\r\r")

# It names requests by what the other side calls them; whatever OPENAI_LOG has set.
logging.getLogger("openai").setLevel(logging.WARNING)
# What was read is worked through at once, and 64 KiB may be 20,000 comments or 2,000 early hints.
AsyncHTTP11Connection.READ_NUM_BYTES = 1024


class Client(AsyncOpenAI):
    @property
    def default_headers(self) -> dict[str, str]:  # type: ignore[override]
        """
        These and the key: not OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_CUSTOM_HEADERS, nor the machine.
        """
        return {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"parley/{__version__}",
        }

    def _make_sse_decoder(self) -> SSEDecoder:
        return _Decoder()


class _Decoder(SSEDecoder):
    """By the standard: a byte order mark is no part of a stream, and an event without data is none."""

    def __init__(self) -> None:
        super().__init__()
        self._has_begun = False

    def decode(self, line: str) -> ServerSentEvent | None:
        if not self._has_begun:
            self._has_begun = True
            line = line.removeprefix("\ufeff")
        event = super().decode(line)
        return event if event is not None and event.data else None


def create_client(base_url: str | None, api_key: str | None) -> Client:
    """Never asks twice, follows no redirect, and keeps no time but for connecting."""
    return Client(
        base_url=base_url or OPENAI_URL,
        # What needs no key is content with any; without one the library asks nobody.
        api_key=api_key or "none",
        max_retries=0,
        http_client=httpx2.AsyncClient(
            headers={"Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(keepalive_expiry=KEEP_SECONDS),
            follow_redirects=False,
            # What is set in one user's turn would be sent with another's.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            event_hooks={"response": [_bound]},
        ),
        timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
    )


def is_stream(response: httpx2.Response) -> bool:
    kind, _, _ = response.headers.get("Content-Type", "").partition(";")
    return bool(kind.strip().lower() == "text/event-stream")


class TooLong(httpx2.RemoteProtocolError):
    """An event, or a body that is no stream, of more bytes than any has that makes sense."""


class _Bounded(httpx2.AsyncByteStream):
    """The same bytes, as long as an event ends now and then: until it does, it is kept in memory."""

    def __init__(self, stream: httpx2.AsyncByteStream, *, has_events: bool) -> None:
        self._stream = stream
        self._has_events = has_events

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        held, last = 0, b""
        async for data in self._stream:
            # Of one read there may be many pieces, each of a byte: others have their turn between them.
            await asyncio.sleep(0)
            held += len(data)
            if self._has_events:
                # The end of an event may come in parts.
                *ended, rest = _EVENT_END.split(last + data)
                held = len(rest) if ended else held
                last = (last + data)[-3:]
            if held > HELD_MAX_BYTES:
                msg = "It does not end."
                raise TooLong(msg)
            yield data

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    if not response.is_success:
        # Its status and headers say enough; the library would read all of its text.
        await response.aclose()
        return
    # Nothing was to be compressed: if it is, it stays so, and a small bomb stays small.
    response.headers.pop("Content-Encoding", None)
    assert isinstance(response.stream, httpx2.AsyncByteStream)  # noqa: S101 - it is never sync
    response.stream = _Bounded(response.stream, has_events=is_stream(response))
