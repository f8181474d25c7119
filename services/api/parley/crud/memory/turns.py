from datetime import UTC, datetime
from uuid import UUID

from parley.core.errors import (
    ConversationMoved,
    ConversationNotFound,
    TurnInProgress,
    TurnNotFound,
    WorkerLost,
)
from parley.crud.memory.tables import StoredMessage, StoredTurn, Tables, owned
from parley.schemas.conversations import Message
from parley.schemas.problem import Problem
from parley.schemas.turns import (
    ChatReply,
    NewTurn,
    Reply,
    Turn,
    TurnMessage,
    TurnStatus,
    recorded_turn,
)


class MemoryTurns:
    def __init__(self, tables: Tables, user_id: str) -> None:
        self._tables = tables
        self._user_id = user_id

    async def close_abandoned(self, conversation_id: UUID, problem: Problem) -> bool:
        running = self._running(conversation_id)
        if running is None or not self._is_dead(running.worker_id):
            return False
        self._end(running, TurnStatus.FAILED, problem)
        return True

    async def accept(self, turn: NewTurn) -> None:
        if f"{self._user_id}/{turn.conversation_id}" not in self._tables.conversations:
            raise ConversationNotFound
        if self._running(turn.conversation_id):
            raise TurnInProgress
        self._tables.turns[f"{self._user_id}/{turn.id}"] = StoredTurn(
            Turn(
                id=turn.id,
                conversation_id=turn.conversation_id,
                status=TurnStatus.RUNNING,
                message=TurnMessage(content=turn.message),
                created_at=datetime.now(UTC),
            ),
            turn.worker_id,
            turn.fence,
        )

    async def record(
        self, turn: NewTurn, length: int, reply: Reply, problem: Problem | None
    ) -> ChatReply:
        stored = self._tables.turns.get(f"{self._user_id}/{turn.id}")
        if stored is None:
            raise ConversationNotFound
        if recorded := self._recorded_before(turn):
            return recorded
        if not _holds(turn, stored):
            raise WorkerLost
        self._claim(turn.conversation_id, length)
        ended = self._end(stored, TurnStatus(reply.status), problem)
        recorded = recorded_turn(
            turn, length, reply, asked_at=ended.created_at, answered_at=datetime.now(UTC)
        )
        for message in (recorded.message, recorded.reply):
            self._tables.messages[f"{self._user_id}/{message.id}"] = StoredMessage(
                message, turn.id
            )
        return recorded

    async def fail(self, turn: NewTurn, problem: Problem) -> None:
        stored = self._tables.turns.get(f"{self._user_id}/{turn.id}")
        if stored is None:
            raise ConversationNotFound
        if _holds(turn, stored):
            self._end(stored, TurnStatus.FAILED, problem)

    async def get(self, turn_id: UUID) -> Turn:
        try:
            turn = self._tables.turns[f"{self._user_id}/{turn_id}"].turn
        except KeyError:
            raise TurnNotFound from None
        messages = self._messages_of(turn_id)
        return turn.model_copy(update={"reply": messages[1]}) if messages else turn

    async def running(self, conversation_id: UUID) -> Turn | None:
        stored = self._running(conversation_id)
        return stored and stored.turn

    def _running(self, conversation_id: UUID) -> StoredTurn | None:
        for stored in owned(self._tables.turns, self._user_id).values():
            turn = stored.turn
            if turn.conversation_id == conversation_id and turn.status is TurnStatus.RUNNING:
                return stored
        return None

    def _is_dead(self, worker_id: UUID) -> bool:
        lease_until = self._tables.workers.get(worker_id)
        return lease_until is None or lease_until <= datetime.now(UTC)

    def _claim(self, conversation_id: UUID, length: int) -> None:
        key = f"{self._user_id}/{conversation_id}"
        conversation = self._tables.conversations[key]
        if conversation.length != length:
            raise ConversationMoved
        self._tables.conversations[key] = conversation.model_copy(
            update={"length": length + 2, "updated_at": datetime.now(UTC)}
        )

    def _end(self, stored: StoredTurn, status: TurnStatus, problem: Problem | None) -> Turn:
        turn = stored.turn.model_copy(
            update={"status": status, "problem": problem, "ended_at": datetime.now(UTC)}
        )
        self._tables.turns[f"{self._user_id}/{turn.id}"] = stored._replace(turn=turn)
        return turn

    def _recorded_before(self, turn: NewTurn) -> ChatReply | None:
        match self._messages_of(turn.id):
            case [message, reply]:
                return ChatReply(
                    turn_id=turn.id,
                    conversation_id=turn.conversation_id,
                    message=message,
                    reply=reply,
                )
            case _:
                return None

    def _messages_of(self, turn_id: UUID) -> list[Message]:
        stored = owned(self._tables.messages, self._user_id).values()
        return sorted(
            (kept.message for kept in stored if kept.turn_id == turn_id),
            key=lambda message: message.position,
        )


def _holds(turn: NewTurn, stored: StoredTurn) -> bool:
    return stored.turn.status is TurnStatus.RUNNING and stored.fence == turn.fence
