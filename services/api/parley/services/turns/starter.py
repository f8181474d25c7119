"""One turn from its acceptance to its end: remember, reply, record."""

from dataclasses import dataclass
from functools import partial

from parley.core.errors import AppError, ReplyTooLong, TurnCancelled
from parley.core.ids import new_id
from parley.schemas.turns import ChatReply, NewTurn, TurnStarted
from parley.services.streams import Slot
from parley.services.turns.acceptance import Acceptance
from parley.services.turns.listening import Listener
from parley.services.turns.orders import TurnOrder
from parley.services.turns.recording import Recorder
from parley.services.turns.relay import Relay
from parley.services.turns.runner import LiveTurn, TurnRunner
from parley.services.workers import Worker

# What to do about a reply that broke off: not what the model's error says where nothing was kept.
KEPT = "What came of the reply is kept. Regenerate it for another one."
STAYS = "The reply that was to be replaced stays. Ask again, with another Idempotency-Key."


@dataclass(frozen=True, kw_only=True)
class TurnStarter:
    worker: Worker
    runner: TurnRunner
    acceptance: Acceptance
    relay: Relay
    listener: Listener
    recorder: Recorder

    async def begin(self, order: TurnOrder, slot: Slot) -> LiveTurn:
        """
        Returns once the turn has been accepted. It goes on when nobody reads any more, and holds the
        slot. No transaction is open while the model thinks: a slow one holds a socket, never a
        database connection.

        Raises:
            Draining: this process begins nothing new.
            AppError: as `Acceptance.accept`.
        """
        turn = NewTurn(
            id=new_id(),
            conversation_id=order.conversation_id or new_id(),
            message=order.message or "",
            worker_id=self.worker.id,
            fence=new_id(),
            idempotency_key=order.idempotency_key,
            fingerprint=order.fingerprint if order.idempotency_key else None,
        )
        live = LiveTurn(order.user_id, turn, order.request_id)
        self.runner.start(live, partial(self._run, order), slot)
        await live.started()
        return live

    async def _run(self, order: TurnOrder, live: LiveTurn) -> ChatReply:
        """
        Raises:
            ModelError, ModelTimeout, ModelUnavailable: no reply, or one that broke off: what
                came of it is recorded, marked failed.
            TurnCancelled: before the first piece.
            AppError: as `Acceptance.accept` and `Recorder.record`.
        """
        conversation, prompt = await self.acceptance.accept(live, order)
        live.start(TurnStarted(turn_id=live.turn.id, conversation_id=live.turn.conversation_id))
        self.relay.carry(live)
        try:
            heard = await self.listener.listen(live, prompt, order.model)
            if heard.error is not None and not heard.pieces:
                await self.recorder.close(live, live.told(heard.error))
                raise heard.error
            if heard.error is not None:
                why = f"{heard.error} " if isinstance(heard.error, ReplyTooLong) else ""
                live.told(heard.error.saying(why + (STAYS if live.turn.replaces else KEPT)))
            recorded = await self.recorder.record(live, conversation.length, heard)
            if heard.error is not None and not isinstance(heard.error, TurnCancelled):
                raise heard.error
        except AppError as error:
            live.told(error)
            raise
        return recorded
