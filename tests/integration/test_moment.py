"""What is read of a conversation while its turn ends."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from parley.core.security.cursors import Cursors
from parley.crud.ports import Store, Transaction
from parley.services.conversations import ConversationService
from parley.services.turns.records import TurnRecords
from parley.services.workers import Worker
from tests.responders import Gated
from tests.turn_process import Process


class Meanwhile:
    """A store in which the turn ends right behind the first transaction."""

    def __init__(self, store: Store, process: Process, model: Gated) -> None:
        self._store = store
        self._process = process
        self._model = model

    @asynccontextmanager
    async def begin(self, user_id: str, *, read_only: bool = False) -> AsyncGenerator[Transaction]:
        async with self._store.begin(user_id, read_only=read_only) as tx:
            yield tx
        self._model.gate.set()
        await self._process.idle()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_its_turn_is_running_or_its_messages_are_there(store: Store, alice: str):
    """Neither would be a reply that is lost, to who stops asking once nothing runs."""
    model = Gated("first ")
    process = Process(store, model)
    started = await process.begin(alice)
    await model.asked.wait()
    meanwhile = Meanwhile(store, process, model)
    service = ConversationService(
        meanwhile,  # type: ignore[arg-type]
        TurnRecords(meanwhile, Worker(store)),  # type: ignore[arg-type]
        Cursors(b"key"),
    )

    seen = await service.get(alice, started.conversation_id)
    after = await service.get(alice, started.conversation_id)

    assert seen.running_turn is not None
    assert (started.turn_id, []) == (seen.running_turn.id, seen.messages)
    assert None is after.running_turn
    assert ["hello", "first re: hello"] == [message.content for message in after.messages]
