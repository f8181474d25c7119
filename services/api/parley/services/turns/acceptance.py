"""How a turn gets its place in the store."""

import asyncio
from typing import NamedTuple

from parley.core.errors import NothingToRegenerate, TurnInProgress
from parley.crud.ports import Store, Transaction
from parley.schemas.conversations import Conversation, ConversationDraft
from parley.schemas.turns import TurnMessage
from parley.services.history import History
from parley.services.responders.base import PromptMessage
from parley.services.turns.counting import count_lost
from parley.services.turns.orders import TurnOrder
from parley.services.turns.queues import Queues
from parley.services.turns.records import TurnRecords
from parley.services.turns.runner import LiveTurn, TurnRunner
from parley.services.workers import Worker

TITLE_CHARACTERS = 80
# How often one who waits looks whether a turn of another process has ended.
LOOK_SECONDS = 0.1


class Accepted(NamedTuple):
    conversation: Conversation
    prompt: list[PromptMessage]


class Acceptance:
    def __init__(
        self,
        store: Store,
        records: TurnRecords,
        runner: TurnRunner,
        worker: Worker,
        history: History,
        *,
        wait_seconds: float,
    ) -> None:
        self._store = store
        self._records = records
        self._runner = runner
        self._worker = worker
        self._history = history
        self._wait_seconds = wait_seconds
        # Of those who wait here for one conversation, one looks at a time, in their order.
        self._queues = Queues()

    async def accept(self, live: LiveTurn, order: TurnOrder) -> Accepted:
        """
        Take the conversation's running slot, with the order's key, and read what was said before.

        Raises:
            ConversationNotFound: it is another user's, or nobody's.
            AccountGone: the user's account was deleted, and this would be a new conversation.
            FileNotFound: one that is attached is another user's, or nobody's.
            NothingToRegenerate: there is no turn to replace.
            TurnInProgress: the slot is taken, or the key is, as long as the order waits for it.
            DatabaseUnavailable, Overloaded: the store did not answer in time.
        """
        if not order.waits or order.conversation_id is None:
            return await self._accept_once(live, order)
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + self._wait_seconds
        async with self._queues.turn(
            (order.user_id, order.conversation_id), give_up_at=give_up_at
        ):
            while True:
                # Before it is tried: while a turn runs here that is in vain, and holds its recording up.
                await self._runner.wait_for_end(
                    order.user_id, order.conversation_id, give_up_at - clock()
                )
                if live.interruption is not None:
                    raise live.interruption
                try:
                    return await self._accept_once(live, order)
                except TurnInProgress:
                    if clock() >= give_up_at or await self._is_begun(order):
                        raise
                await asyncio.sleep(min(LOOK_SECONDS, give_up_at - clock()))

    async def _is_begun(self, order: TurnOrder) -> bool:
        key = order.idempotency_key
        return key is not None and await self._records.keyed(order.user_id, key) is not None

    async def _accept_once(self, live: LiveTurn, order: TurnOrder) -> Accepted:
        await self._worker.ensure_lease()
        has_closed = False
        async with self._store.begin(order.user_id) as tx:
            if order.conversation_id is None:
                draft = ConversationDraft(title=live.turn.message[:TITLE_CHARACTERS])
                conversation = await tx.conversations.create(live.turn.conversation_id, draft)
            else:
                # What was recorded until it is ours is part of what is read behind this.
                conversation = await tx.conversations.lock(order.conversation_id)
                has_closed = await self._records.close_abandoned(tx, conversation.id)
            if order.attachments:
                attachments = [*await tx.files.named(order.attachments)]
                live.turn = live.turn.model_copy(update={"attachments": attachments})
            if order.replaces_last:
                await self._name_what_is_replaced(tx, live, order)
            await tx.turns.accept(live.turn)
            prompt = await self._history.prompt(tx, conversation, live.turn)
            live.is_open = True
        if has_closed:
            count_lost()
        return Accepted(conversation, prompt)

    async def _name_what_is_replaced(
        self, tx: Transaction, live: LiveTurn, order: TurnOrder
    ) -> None:
        last = await tx.turns.last(live.turn.conversation_id)
        if last is None:
            # There will be one, once the first turn has ended.
            is_busy = await tx.turns.running(live.turn.conversation_id) is not None
            raise TurnInProgress if is_busy else NothingToRegenerate
        said = {} if order.message is not None else _said(last.message)
        live.turn = live.turn.model_copy(update={"replaces": last.id, **said})


def _said(message: TurnMessage) -> dict[str, object]:
    return {"message": message.content, "attachments": message.attachments}
