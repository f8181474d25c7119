from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from parley.core.errors import (
    ConversationMoved,
    ConversationNotFound,
    FileNotFound,
    TurnInProgress,
    TurnNotFound,
    WorkerLost,
)
from parley.crud.memory.tables import StoredMessage, StoredTurn, Tables, owned
from parley.schemas.conversations import Message, MessageStatus
from parley.schemas.problem import Problem
from parley.schemas.turns import (
    ChatReply,
    KeyedTurn,
    NewTurn,
    Reply,
    Turn,
    TurnMessage,
    TurnStatus,
    follows,
    recorded_turn,
)


class MemoryTurns:
    def __init__(self, tables: Tables, user_id: str) -> None:
        self._tables = tables
        self._user_id = user_id

    async def is_abandoned(self, turn_id: UUID) -> bool:
        stored = self._tables.turns.get(f"{self._user_id}/{turn_id}")
        is_running = stored is not None and stored.turn.status is TurnStatus.RUNNING
        return stored is not None and is_running and self._is_dead(stored.worker_id)

    async def close_abandoned(self, conversation_id: UUID, problem: Problem) -> bool:
        running = self._running(conversation_id)
        if running is None or not self._is_dead(running.worker_id):
            return False
        self._close(running, TurnStatus.FAILED, problem)
        return True

    async def accept(self, turn: NewTurn) -> None:
        if f"{self._user_id}/{turn.conversation_id}" not in self._tables.conversations:
            raise ConversationNotFound
        if self._running(turn.conversation_id) or self._keyed(turn.idempotency_key):
            raise TurnInProgress
        for file in turn.attachments:
            if f"{self._user_id}/{file.id}" not in self._tables.files:
                raise FileNotFound(file.id)
        self._tables.turns[f"{self._user_id}/{turn.id}"] = StoredTurn(
            Turn(
                id=turn.id,
                conversation_id=turn.conversation_id,
                status=TurnStatus.RUNNING,
                message=TurnMessage(content=turn.message, attachments=turn.attachments),
                replaces=turn.replaces,
                created_at=datetime.now(UTC),
            ),
            turn.worker_id,
            turn.fence,
            turn.idempotency_key,
            turn.fingerprint,
        )

    async def record(
        self, turn: NewTurn, length: int, reply: Reply, problem: Problem | None
    ) -> ChatReply:
        stored = self._tables.turns.get(f"{self._user_id}/{turn.id}")
        if stored is None:
            raise ConversationNotFound
        if recorded := await self.recorded(turn.id):
            return recorded
        if not _holds(turn, stored):
            raise WorkerLost
        self._claim(turn, length)
        ended = self._end(stored, TurnStatus(reply.status), problem)
        recorded = recorded_turn(
            turn, length, reply, asked_at=ended.created_at, answered_at=datetime.now(UTC)
        )
        is_hidden = turn.replaces is not None and reply.status is MessageStatus.FAILED
        if turn.replaces is not None and not is_hidden:
            self._hide(turn.replaces)
        for message in (recorded.message, recorded.reply):
            self._tables.messages[f"{self._user_id}/{message.id}"] = StoredMessage(
                message, turn.id, is_hidden
            )
        return recorded

    async def close(self, turn: NewTurn, status: TurnStatus, problem: Problem) -> None:
        stored = self._tables.turns.get(f"{self._user_id}/{turn.id}")
        if stored is None:
            raise ConversationNotFound
        if stored.turn.problem and stored.turn.problem.code == WorkerLost.code:
            raise WorkerLost
        if _holds(turn, stored):
            self._close(stored, status, problem)

    async def get(self, turn_id: UUID) -> Turn:
        try:
            turn = self._tables.turns[f"{self._user_id}/{turn_id}"].turn
        except KeyError:
            raise TurnNotFound from None
        messages = self._messages_of(turn_id)
        return turn.model_copy(update={"reply": messages[1]}) if messages else turn

    async def seconds_since_end(self, turn_id: UUID) -> float:
        stored = self._tables.turns.get(f"{self._user_id}/{turn_id}")
        ended_at = stored and stored.turn.ended_at
        return (datetime.now(UTC) - ended_at).total_seconds() if ended_at else 0

    async def recorded(self, turn_id: UUID) -> ChatReply | None:
        match self._messages_of(turn_id):
            case [message, reply]:
                return ChatReply(
                    turn_id=turn_id,
                    conversation_id=message.conversation_id,
                    message=message,
                    reply=reply,
                )
            case _:
                return None

    async def running(self, conversation_id: UUID) -> Turn | None:
        stored = self._running(conversation_id)
        return stored and stored.turn

    async def last(self, conversation_id: UUID) -> Turn | None:
        shown = [
            (stored.message.position, stored.turn_id)
            for stored in owned(self._tables.messages, self._user_id).values()
            if stored.message.conversation_id == conversation_id and not stored.superseded
        ]
        return await self.get(max(shown)[1]) if shown else None

    async def keyed(self, idempotency_key: str) -> KeyedTurn | None:
        stored = self._keyed(idempotency_key)
        return stored and KeyedTurn(await self.get(stored.turn.id), stored.fingerprint)

    async def request_cancel(self, turn_id: UUID) -> Turn:
        turn, key = await self.get(turn_id), f"{self._user_id}/{turn_id}"
        stored = self._tables.turns[key]
        if turn.status is TurnStatus.RUNNING and not stored.cancel_requested:
            self._tables.turns[key] = stored._replace(cancel_requested=True)
            self._tables.tell(stored.worker_id)
        return turn

    async def wanted(self, worker_id: UUID) -> Sequence[UUID]:
        return [
            stored.turn.id
            for stored in owned(self._tables.turns, self._user_id).values()
            if stored.turn.status is TurnStatus.RUNNING
            and stored.worker_id == worker_id
            and not stored.cancel_requested
        ]

    def _keyed(self, idempotency_key: str | None) -> StoredTurn | None:
        if idempotency_key is None:
            return None
        stored = owned(self._tables.turns, self._user_id).values()
        return next((s for s in stored if s.idempotency_key == idempotency_key), None)

    def _hide(self, turn_id: UUID) -> None:
        for key, stored in owned(self._tables.messages, self._user_id).items():
            if stored.turn_id == turn_id:
                self._tables.messages[key] = stored._replace(superseded=True)

    def _running(self, conversation_id: UUID) -> StoredTurn | None:
        for stored in owned(self._tables.turns, self._user_id).values():
            turn = stored.turn
            if turn.conversation_id == conversation_id and turn.status is TurnStatus.RUNNING:
                return stored
        return None

    def _is_dead(self, worker_id: UUID) -> bool:
        worker = self._tables.workers.get(worker_id)
        return worker is None or worker.lease_until <= datetime.now(UTC)

    def _claim(self, turn: NewTurn, length: int) -> None:
        key = f"{self._user_id}/{turn.conversation_id}"
        conversation = self._tables.conversations[key]
        if conversation.length != length:
            raise ConversationMoved
        self._tables.conversations[key] = conversation.model_copy(
            update={"length": follows(turn, length) + 2, "updated_at": datetime.now(UTC)}
        )

    def _close(self, stored: StoredTurn, status: TurnStatus, problem: Problem) -> None:
        """Without messages: its key is free again, and so are its files."""
        message = TurnMessage(content=stored.turn.message.content)
        turn = stored.turn.model_copy(update={"message": message})
        self._end(stored._replace(turn=turn, idempotency_key=None), status, problem)

    def _end(self, stored: StoredTurn, status: TurnStatus, problem: Problem | None) -> Turn:
        turn = stored.turn.model_copy(
            update={"status": status, "problem": problem, "ended_at": datetime.now(UTC)}
        )
        self._tables.turns[f"{self._user_id}/{turn.id}"] = stored._replace(turn=turn)
        return turn

    def _messages_of(self, turn_id: UUID) -> list[Message]:
        stored = owned(self._tables.messages, self._user_id).values()
        return sorted(
            (kept.message for kept in stored if kept.turn_id == turn_id),
            key=lambda message: message.position,
        )


def _holds(turn: NewTurn, stored: StoredTurn) -> bool:
    return stored.turn.status is TurnStatus.RUNNING and stored.fence == turn.fence
