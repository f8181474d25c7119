"""A model's reply, as it comes, within the limits."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from parley.core.errors import AppError, InternalError, ModelTimeout, ReplyTooLong
from parley.core.logging import frames_of
from parley.core.metrics import FIRST_PIECE_SECONDS
from parley.services.responders.base import PromptMessage, Receipt, Responder
from parley.services.turns.runner import LiveTurn

log = structlog.get_logger(__name__)


@dataclass
class Heard:
    """A reply as far as it came, what wrote it, and what cut it short."""

    receipt: Receipt
    error: AppError | None = None
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Listener:
    def __init__(
        self,
        responder: Responder,
        *,
        silence_seconds: float,
        reply_seconds: float,
        reply_max_characters: int,
    ) -> None:
        self._responder = responder
        self._silence_seconds = silence_seconds
        self._reply_seconds = reply_seconds
        self._reply_max_characters = reply_max_characters

    async def listen(self, live: LiveTurn, prompt: Sequence[PromptMessage], model: str) -> Heard:
        """The whole reply, or as much of it as came within the limits; told as it comes."""
        heard = Heard(Receipt(model))
        try:
            await self._collect(live, prompt, model, heard)
        except AppError as known:
            heard.error = known
        except Exception as bug:  # noqa: BLE001 - logged; the turn must be ended in the store
            log.error("responder-crashed", turn_id=str(live.turn.id), **frames_of(bug))
            heard.error = InternalError()
        return heard

    async def _collect(
        self, live: LiveTurn, prompt: Sequence[PromptMessage], model: str, heard: Heard
    ) -> None:
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        ends_at = asked_at + self._reply_seconds
        room = self._reply_max_characters
        try:
            async with (
                live.patience() as patience,
                aclosing(self._responder.stream(prompt, model)) as stream,
            ):
                while live.interruption is None:
                    patience.reschedule(min(clock() + self._silence_seconds, ends_at))
                    piece = await anext(stream, None)
                    # A model that says much at once is not listened to alone.
                    await asyncio.sleep(0)
                    if piece is None:
                        return
                    if isinstance(piece, Receipt):
                        heard.receipt = piece
                        continue
                    if shown := piece[:room]:
                        if not heard.pieces:
                            FIRST_PIECE_SECONDS.labels(model).observe(clock() - asked_at)
                        heard.pieces.append(shown)
                        live.say(shown)
                    room -= len(piece)
                    if room < 0:
                        raise ReplyTooLong
        except TimeoutError as timeout:
            if not patience.expired():
                raise
            is_silence = clock() < ends_at
            why = "The model fell silent." if is_silence else "The reply took too long."
            raise live.interruption or ModelTimeout(why) from timeout
        raise live.interruption
