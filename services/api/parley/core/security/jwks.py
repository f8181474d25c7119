"""Asking an issuer for its keys, over HTTP."""

import asyncio
import json
from http import HTTPStatus

import httpx2

from parley.core.security.keys import Keys, KeysUnreadable, keys_of

TIMEOUT_SECONDS = 3
DOCUMENT_MAX_BYTES = 256 * 1024


class Jwks:
    """
    The key set (RFC 7517, 5) at an address that an operator has set: no token names another one.

    No redirect is followed, nothing is decompressed, and no more is read than a set may have.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx2.AsyncClient(
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            follow_redirects=False,
            timeout=TIMEOUT_SECONDS,
        )

    async def fetch(self) -> Keys:
        """
        Raises:
            KeysUnreadable: no answer within 3 s, or none that is a key set.
        """
        try:
            # The client's own limit is one for each step.
            async with asyncio.timeout(TIMEOUT_SECONDS):
                document = json.loads(await self._read())
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            # Its message may quote the address.
            raise KeysUnreadable(type(error).__name__) from error
        except (ValueError, RecursionError) as error:
            msg = "no JSON"
            raise KeysUnreadable(msg) from error
        return keys_of(document)

    async def _read(self) -> bytes:
        read = bytearray()
        async with self._client.stream("GET", self._url) as response:
            if response.status_code != HTTPStatus.OK:
                msg = f"status {response.status_code}"
                raise KeysUnreadable(msg)
            async for piece in response.aiter_raw():
                read += piece
                if len(read) > DOCUMENT_MAX_BYTES:
                    msg = "too large"
                    raise KeysUnreadable(msg)
        return bytes(read)

    async def close(self) -> None:
        await self._client.aclose()
