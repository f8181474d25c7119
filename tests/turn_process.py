"""What `wiring` makes for one process, without HTTP: two of them on one store are two replicas."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from obstore.store import MemoryStore

from parley.core.ids import new_id
from parley.core.settings import Settings
from parley.crud.memory.streams import MemoryStreamLog
from parley.crud.objects.blobs import ObjectBlobs
from parley.crud.ports import Store, StreamLog
from parley.schemas.turns import ChatReply, ChatRequest, RegenerateRequest, Turn, TurnStarted
from parley.services.chat import Asking
from parley.services.responders.base import Responder
from parley.services.streams import Slot
from parley.services.turns.events import Numbered, TurnEvents
from parley.services.turns.runner import TurnRunner
from parley.services.turns.service import Reading
from parley.services.workers import Worker
from parley.wiring import turn_services


class Admitted:
    """Lets everybody in, and counts them."""

    def __init__(self) -> None:
        self.begun = self.keyed = 0

    async def begin_turn(self) -> Slot:
        self.begun += 1
        return Slot(lambda: None)

    def enter_with_key(self) -> None:
        self.keyed += 1


class Process:
    def __init__(
        self,
        store: Store,
        responder: Responder,
        *,
        log: StreamLog | None = None,
        runner: TurnRunner | None = None,
        **settings: Any,
    ) -> None:
        self.runner = runner or TurnRunner(store)
        self.worker = Worker(store)
        self.admission = Admitted()
        made = turn_services(
            Settings(auth_secret="x" * 32, **{"reply_max_characters": 1000} | settings),
            store=store,
            blobs=ObjectBlobs(MemoryStore),
            responder=responder,
            runner=self.runner,
            worker=self.worker,
            log=log or MemoryStreamLog(retention_seconds=600),
        )
        self.chat, self.turns, self.relay, self.cancels = (
            made.chat, made.turns, made.relay, made.cancels,
        )  # fmt: skip

    async def ask(
        self,
        user_id: str,
        message: str = "hello",
        conversation_id: UUID | None = None,
        *,
        key: str | None = None,
        streamed: bool = False,
        **options: Any,
    ) -> Reading:
        """Returns once the turn has begun, or was found."""
        request = ChatRequest(message=message, conversation_id=conversation_id, **options)
        asking = Asking(new_id().hex, streamed, key)
        return await self.chat.send(user_id, request, asking, self.admission)

    async def say(
        self, user_id: str, message: str, conversation_id: UUID | None = None, **options: Any
    ) -> ChatReply:
        reading = await self.ask(user_id, message, conversation_id, **options)
        try:
            return await reading.events.outcome()
        finally:
            reading.leave()

    async def begin(self, user_id: str, conversation_id: UUID | None = None) -> TurnStarted:
        """A turn that nobody reads."""
        return await (await self.ask(user_id, "hello", conversation_id)).events.started()

    async def regenerate(self, user_id: str, conversation_id: UUID, **options: Any) -> ChatReply:
        asking = Asking(new_id().hex, wants_events=False)
        reading = await self.chat.regenerate(
            user_id, conversation_id, RegenerateRequest(**options), asking, self.admission
        )
        return await reading.events.outcome()

    async def look_for_cancels(self) -> None:
        """Until everybody has been looked through for whom there was room."""
        await self.cancels.look()
        while looks := self.cancels._looks.values():  # noqa: SLF001 - nobody else is told
            await asyncio.wait([*looks])

    async def idle(self) -> None:
        """Until every turn has ended."""
        while self.runner._running:  # noqa: SLF001 - nobody else is told when they are all gone
            await asyncio.wait(self.runner._running)  # noqa: SLF001

    @asynccontextmanager
    async def relaying(self) -> AsyncGenerator[None]:
        self.relay.start()
        try:
            yield
        finally:
            await self.relay.stop()


async def events_of(events: TurnEvents, after: int = 0) -> list[Numbered]:
    return [one async for several in events.read(after) for one in several]


async def turn_of(store: Store, user_id: str, turn_id: UUID) -> Turn:
    async with store.begin(user_id, read_only=True) as tx:
        return await tx.turns.get(turn_id)
