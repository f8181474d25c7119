"""What a user says, answered once: the same key is the same turn."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

from parley.core.errors import IdempotencyKeyReused, ModelNotOffered, TurnInProgress
from parley.schemas.turns import ChatRequest, RegenerateRequest, TurnOptions, TurnStatus
from parley.services.streams import Slot
from parley.services.turns.orders import TurnOrder, fingerprint_of
from parley.services.turns.queues import Queues
from parley.services.turns.records import TurnRecords
from parley.services.turns.service import Reading, TurnService
from parley.services.turns.starter import TurnStarter

# Long enough for the store to take a turn, or to refuse it, several times.
ACCEPT_SECONDS = 10.0


class Asking(NamedTuple):
    """The request that a turn is asked for with."""

    request_id: str
    wants_events: bool
    idempotency_key: str | None = None


class Admission(Protocol):
    """What a user is allowed; asked only once it is known what is wanted."""

    async def begin_turn(self) -> Slot:
        """
        Raises:
            RateLimited: not so soon.
            TooManyStreams: the user has as many turns on their way as one may.
        """
        ...

    def enter_with_key(self) -> None:
        """
        Before it is known whether there is a turn of this key: finding one costs no message.

        Raises:
            RateLimited: too many of the user's requests that may be repeated are on their way.
        """
        ...


class ChatService:
    def __init__(
        self,
        starter: TurnStarter,
        turns: TurnService,
        records: TurnRecords,
        *,
        models: Sequence[str],
        wait_seconds: float,
    ) -> None:
        """`models` may be asked for; the first where none is."""
        self._starter = starter
        self._turns = turns
        self._records = records
        self._models = models
        self._wait_seconds = wait_seconds
        # Of requests with one key that meet here, one at a time begins a turn or finds it begun.
        self._queues = Queues()

    async def send(
        self, user_id: str, request: ChatRequest, asking: Asking, admission: Admission
    ) -> Reading:
        """
        Answer one message; record both sides of the turn, or neither.

        Returns once the turn has been accepted, or found by its key. It goes on when nobody reads any
        more. No transaction is open while the model thinks: a slow one holds a socket, never a
        database connection.

        Raises:
            ConversationNotFound: it is another user's, or nobody's.
            AccountGone: the user's account was deleted, and this would be a new conversation.
            FileNotFound: one that is attached is another user's, or nobody's.
            TurnInProgress: another turn of this conversation is running.
            NothingToRegenerate: there is no turn to replace.
            IdempotencyKeyReused: the key was used for something else.
            ModelNotOffered: it is none of MODELS.
            RateLimited, TooManyStreams: as the admission says.
            DatabaseUnavailable, Overloaded: the store did not answer in time.
            Draining: this process is shutting down.
        """
        order = self._order(user_id, request.conversation_id, request, asking)
        return await self._place(order, asking, admission)

    async def regenerate(
        self,
        user_id: str,
        conversation_id: UUID,
        request: RegenerateRequest,
        asking: Asking,
        admission: Admission,
    ) -> Reading:
        """
        Answer the last message once more; the new turn takes the place of the old one.

        Raises:
            AppError: as `send`.
        """
        order = self._order(user_id, conversation_id, request, asking)
        return await self._place(order, asking, admission)

    def _order(
        self, user_id: str, conversation_id: UUID | None, request: TurnOptions, asking: Asking
    ) -> TurnOrder:
        message, replaces_last, attachments = None, True, []
        if isinstance(request, ChatRequest):
            message, replaces_last = request.message, request.replace_last
            attachments = request.attachments
        return TurnOrder(
            user_id=user_id,
            message=message,
            attachments=attachments,
            conversation_id=conversation_id,
            replaces_last=replaces_last,
            request_id=asking.request_id,
            model=request.model or self._models[0],
            waits=request.if_busy == "wait",
            idempotency_key=asking.idempotency_key,
            fingerprint=fingerprint_of(
                message,
                attachments,
                conversation_id,
                request.model,
                replaces_last=replaces_last,
            ),
        )

    async def _place(self, order: TurnOrder, asking: Asking, admission: Admission) -> Reading:
        key = order.idempotency_key
        if key is None:
            return await self._begin(order, admission)
        admission.enter_with_key()
        # Those before it wait themselves, if they are told to, and then ask the store.
        patience = self._wait_seconds + ACCEPT_SECONDS
        give_up_at = asyncio.get_running_loop().time() + patience
        async with self._queues.turn((order.user_id, key), give_up_at=give_up_at):
            if known := await self._known(key, order, asking):
                return known
            try:
                return await self._begin(order, admission)
            except TurnInProgress:
                # The slot is taken or the key is: another process was faster.
                if known := await self._known(key, order, asking):
                    return known
                raise

    async def _begin(self, order: TurnOrder, admission: Admission) -> Reading:
        # Not before it is known whether there is a turn of the key, which may be of another time's model.
        if order.model not in self._models:
            raise ModelNotOffered(self._models)
        return Reading(await self._starter.begin(order, await admission.begin_turn()))

    async def _known(self, key: str, order: TurnOrder, asking: Asking) -> Reading | None:
        found = await self._records.keyed(order.user_id, key)
        if found is None:
            return None
        if found.fingerprint != order.fingerprint:
            raise IdempotencyKeyReused
        if found.turn.status is TurnStatus.RUNNING:
            return self._turns.follow(order.user_id, found.turn)
        if asking.wants_events:
            return self._turns.follow(order.user_id, found.turn)._replace(is_replayed=True)
        events = await self._records.replayed(order.user_id, found.turn)
        return Reading(events, is_replayed=True)
