"""One chat turn: remember, reply, record."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import structlog

from parley.core.errors import (
    AppError,
    DatabaseUnavailable,
    InternalError,
    ModelError,
    ModelTimeout,
    Overloaded,
    WorkerLost,
)
from parley.core.ids import new_id
from parley.core.logging import frames_of
from parley.crud.ports import Store
from parley.schemas.conversations import Conversation, ConversationDraft, Message, MessageStatus
from parley.schemas.turns import ChatReply, ChatRequest, NewTurn, Reply, TurnStarted
from parley.services.responders.base import PromptMessage, Receipt, Responder
from parley.services.streams import Slot
from parley.services.turns import Event, LiveTurn, TurnRunner, problem_of
from parley.services.workers import Worker

TITLE_CHARACTERS = 80
RECORD_SECONDS = 2.5
RECORD_AGAIN_SECONDS = 0.2

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ChatLimits:
    """What the operator allows a turn."""

    models: Sequence[str]
    """Those that may be asked for; the first where none is."""
    system_prompt: str | None
    history_max_messages: int
    silence_seconds: float
    reply_seconds: float
    reply_max_characters: int


@dataclass(frozen=True)
class _Heard:
    """A reply as far as it came, and what cut it short."""

    text: str
    receipt: Receipt
    error: AppError | None


class ChatService:
    def __init__(
        self,
        store: Store,
        responder: Responder,
        runner: TurnRunner,
        worker: Worker,
        limits: ChatLimits,
    ) -> None:
        self._store = store
        self._responder = responder
        self._runner = runner
        self._worker = worker
        self._limits = limits

    def stream(
        self, user_id: str, request: ChatRequest, slot: Slot | None = None
    ) -> AsyncGenerator[Event]:
        """
        Answer one message; record both sides of the turn, or neither.

        The turn goes on when nobody reads any more, and holds the `slot` until it ends. No transaction is open while the model
        thinks: a slow one holds a socket, never a database connection.

        Yields:
            TurnStarted, the pieces of the reply as they come, then the recorded turn.

        Raises:
            ConversationNotFound: it is another user's, or nobody's, or was deleted meanwhile.
            AccountGone: the user's account was deleted, and this would be a new conversation.
            TurnInProgress: another turn of this conversation is running.
            ConversationMoved: another turn was recorded first.
            ModelError, ModelTimeout, ModelUnavailable: no reply, or one that broke off: what
                came of it is recorded, marked failed.
            DatabaseUnavailable, Overloaded: the store did not answer in time.
            Draining: this process is shutting down.
        """
        turn = NewTurn(
            id=new_id(),
            conversation_id=request.conversation_id or new_id(),
            message=request.message,
            worker_id=self._worker.id,
            fence=new_id(),
        )
        is_new = request.conversation_id is None
        return self._runner.start(user_id, turn, partial(self._run, is_new=is_new), slot).read()

    async def _run(self, live: LiveTurn, *, is_new: bool) -> ChatReply:
        turn = live.turn
        conversation, history = await self._remember(live, is_new=is_new)
        live.publish(TurnStarted(turn_id=turn.id, conversation_id=turn.conversation_id))
        try:
            heard = await self._listen(live, self._prompt(conversation, history, turn))
            if not heard.text:
                error = heard.error or ModelError("The model said nothing. Try again.")
                await self._fail(live, error)
                raise error
            recorded = await self._record(live, conversation.length, heard)
            if heard.error is not None:
                raise heard.error
        except AppError as error:
            error.about(turn_id=turn.id, conversation_id=turn.conversation_id)
            raise
        return recorded

    async def _remember(
        self, live: LiveTurn, *, is_new: bool
    ) -> tuple[Conversation, Sequence[Message]]:
        turn = live.turn
        await self._worker.ensure_lease()
        async with self._store.begin(live.user_id) as tx:
            if is_new:
                draft = ConversationDraft(title=turn.message[:TITLE_CHARACTERS])
                conversation = await tx.conversations.create(turn.conversation_id, draft)
                await tx.turns.accept(turn)
                history: Sequence[Message] = []
            else:
                await tx.turns.close_abandoned(turn.conversation_id, problem_of(WorkerLost()))
                await tx.turns.accept(turn)
                # Read only now: what was recorded until the slot was ours is part of it.
                conversation = await tx.conversations.get(turn.conversation_id)
                history = await tx.messages.history(
                    conversation.id, self._limits.history_max_messages
                )
            live.is_open = True
        return conversation, history

    def _prompt(
        self, conversation: Conversation, history: Sequence[Message], turn: NewTurn
    ) -> list[PromptMessage]:
        return [
            *(
                PromptMessage("system", wish)
                for wish in (self._limits.system_prompt, conversation.instructions)
                if wish
            ),
            *(PromptMessage(message.role.value, message.content) for message in history),
            PromptMessage("user", turn.message),
        ]

    async def _listen(self, live: LiveTurn, prompt: Sequence[PromptMessage]) -> _Heard:
        """The whole reply, or as much of it as came within the limits."""
        pieces: list[str] = []
        receipts = [Receipt(self._limits.models[0])]
        error: AppError | None = None
        try:
            await self._collect(live, prompt, pieces, receipts)
        except AppError as known:
            error = known
        except Exception as bug:  # noqa: BLE001 - logged; the turn must be ended in the store
            log.error("responder-crashed", turn_id=str(live.turn.id), **frames_of(bug))
            error = InternalError()
        return _Heard("".join(pieces), receipts[-1], error)

    async def _collect(
        self,
        live: LiveTurn,
        prompt: Sequence[PromptMessage],
        pieces: list[str],
        receipts: list[Receipt],
    ) -> None:
        clock = asyncio.get_running_loop().time
        ends_at = clock() + self._limits.reply_seconds
        room = self._limits.reply_max_characters
        try:
            async with (
                live.patience() as patience,
                aclosing(self._responder.stream(prompt, receipts[0].model)) as stream,
            ):
                while live.interruption is None:
                    patience.reschedule(min(clock() + self._limits.silence_seconds, ends_at))
                    piece = await anext(stream, None)
                    if piece is None:
                        return
                    if isinstance(piece, Receipt):
                        receipts.append(piece)
                        continue
                    if shown := piece[:room]:
                        pieces.append(shown)
                        live.publish(shown)
                    room -= len(piece)
                    if room < 0:
                        msg = "The reply was longer than is allowed here; the rest is cut."
                        raise ModelError(msg)
        except TimeoutError as timeout:
            if not patience.expired():
                raise
            raise live.interruption or ModelTimeout("The model fell silent.") from timeout
        raise live.interruption

    async def _record(self, live: LiveTurn, length: int, heard: _Heard) -> ChatReply:
        reply = Reply(
            message_id=new_id(),
            id=new_id(),
            content=heard.text,
            status=MessageStatus.FAILED if heard.error else MessageStatus.COMPLETE,
            model=heard.receipt.model,
            usage=heard.receipt.usage and dict(heard.receipt.usage),
        )
        problem = None if heard.error is None else problem_of(heard.error)
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + RECORD_SECONDS
        while True:
            try:
                async with self._store.begin(live.user_id) as tx:
                    recorded = await tx.turns.record(live.turn, length, reply, problem)
            except (DatabaseUnavailable, Overloaded):
                # A reply is too dear to lose to a hiccup; recording it twice is the same as once.
                if clock() + RECORD_AGAIN_SECONDS > give_up_at:
                    raise
                await asyncio.sleep(RECORD_AGAIN_SECONDS)
            else:
                live.is_open = False
                return recorded

    async def _fail(self, live: LiveTurn, error: AppError) -> None:
        async with self._store.begin(live.user_id) as tx:
            await tx.turns.fail(live.turn, problem_of(error))
        live.is_open = False
