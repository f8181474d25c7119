import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any

import httpx2
from openai import (
    APIError,
    AsyncStream,
    BadRequestError,
    OpenAIError,
    UnprocessableEntityError,
)

from parley.services.responders.base import Fault, PromptMessage, Receipt
from parley.services.responders.openai.chunks import Said, names_of
from parley.services.responders.openai.client import create_client, is_stream
from parley.services.responders.openai.faults import Nonsense, fault_before, fault_within
from parley.services.responders.openai.prompts import wire_message

LAST_WORDS_SECONDS = 2
_COUNTING: dict[str, Any] = {"stream_options": {"include_usage": True}}


class OpenAIResponder:
    """
    Asks once, and believes nothing: what is not read as a reply is an error in words of ours.

    A reply is whole once it has said why it ends; what comes or fails to come after that, but for
    what it counted, is of no account.
    """

    def __init__(
        self,
        *,
        base_url: str | None,
        api_key: str | None,
    ) -> None:
        self._client = create_client(base_url, api_key)
        # Models that know no `stream_options`.
        self._plain: set[str] = set()

    async def close(self) -> None:
        await self._client.close()

    async def stream(
        self, prompt: Sequence[PromptMessage], model: str
    ) -> AsyncGenerator[str | Receipt]:
        said = Said(model)
        async with await self._ask(prompt, model) as chunks:
            while not said.is_finished:
                yield await _next_piece(chunks, said)
            await self._hear_out(chunks, said)
        yield said.receipt

    async def models(self) -> set[str]:
        """
        The names of those that it has.

        Raises:
            Fault: it cannot be asked, or makes no sense.
        """
        try:
            async with self._client.models.with_streaming_response.list() as response:
                return names_of(await response.json())
        except APIError as error:
            raise fault_before(error) from error
        except (httpx2.RequestError, ValueError, RecursionError) as error:
            raise fault_within(error) from error

    async def _ask(self, prompt: Sequence[PromptMessage], model: str) -> AsyncStream[object]:
        body = {
            "model": model,
            "messages": [wire_message(message) for message in prompt],
            "stream": True,
        }
        wish = {} if model in self._plain else _COUNTING
        try:
            try:
                return await self._open(body | wish)
            except (BadRequestError, UnprocessableEntityError):
                if not wish:
                    raise
                # Once it has been seen to be why, it is not asked to count again.
                chunks = await self._open(body)
                self._plain.add(model)
                return chunks
        except APIError as error:
            raise fault_before(error) from error

    async def _open(self, body: dict[str, Any]) -> AsyncStream[object]:
        # As plain JSON: the library's own types would be made of whatever comes.
        chunks = await self._client.post(
            "/chat/completions",
            cast_to=object,
            body=body,
            stream=True,
            stream_cls=AsyncStream[object],
        )
        if not is_stream(chunks.response):
            await chunks.close()
            msg = "it answered with no stream: does OPENAI_BASE_URL lead to its /v1?"
            raise Nonsense(msg)
        return chunks

    async def _hear_out(self, chunks: AsyncStream[object], said: Said) -> None:
        with suppress(Fault, TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                while True:
                    await _next_piece(chunks, said)


async def _next_piece(chunks: AsyncStream[object], said: Said) -> str:
    """
    Raises:
        Fault: there is none, though it has not finished; or it makes no sense.
    """
    try:
        chunk = await anext(chunks)
    except (StopAsyncIteration, OpenAIError, ValueError, RecursionError) as error:
        raise fault_within(error) from error
    return said.take(chunk)
