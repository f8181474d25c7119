"""A model's reply, as it comes, within the limits."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from parley.core.errors import AppError, InternalError, ModelError, ModelTimeout, ReplyTooLong
from parley.core.logging import frames_of
from parley.core.metrics import FIRST_PIECE_SECONDS
from parley.services.files.attachments import AttachmentReader
from parley.services.responders.base import Fault, PromptMessage, Receipt
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
        reader: AttachmentReader,
        *,
        silence_seconds: float,
        reply_seconds: float,
        reply_max_characters: int,
    ) -> None:
        self._reader = reader
        self._silence_seconds = silence_seconds
        self._reply_seconds = reply_seconds
        self._reply_max_characters = reply_max_characters

    async def listen(self, live: LiveTurn, prompt: Sequence[PromptMessage], model: str) -> Heard:
        """
        The whole reply, or as much of it as came within the limits; told as it comes.

        Without an error there are pieces.
        """
        heard = Heard(Receipt(model))
        try:
            await self._collect(live, prompt, model, heard)
        except Fault as fault:
            heard.error = fault.error
            log.warning(
                "model-failed",
                turn_id=str(live.turn.id),
                model=model,
                reason=str(fault),
                code=fault.error.code,
            )
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
                aclosing(self._reader.stream(live.user_id, prompt, model)) as stream,
            ):
                while live.interruption is None:
                    patience.reschedule(min(clock() + self._silence_seconds, ends_at))
                    piece = await anext(stream, None)
                    # A model that says much at once is not listened to alone.
                    await asyncio.sleep(0)
                    if piece is None:
                        _require_words(heard)
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
                        reason = "it said more than REPLY_MAX_CHARACTERS"
                        raise Fault(reason, ReplyTooLong())
        except TimeoutError:
            if not patience.expired():
                raise
            if live.interruption is None:
                raise _too_slow(is_silent=clock() < ends_at) from None
        heard.error = live.interruption


def _require_words(heard: Heard) -> None:
    if not heard.pieces:
        reason = "it said nothing"
        raise Fault(reason, ModelError("The model said nothing. Try again."))


def _too_slow(*, is_silent: bool) -> Fault:
    if is_silent:
        said = "The model fell silent. Try again."
        return Fault("it was silent for MODEL_TIMEOUT_SECONDS", ModelTimeout(said))
    said = "The reply took too long. Try again."
    return Fault("it took longer than MODEL_REPLY_SECONDS", ModelTimeout(said))
