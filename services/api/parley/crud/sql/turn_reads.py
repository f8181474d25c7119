from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, and_, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from parley.core.errors import TurnNotFound
from parley.crud.sql.messages import attachments_of, message_of
from parley.models import MessageRow, TurnRow, WorkerRow, utc_now
from parley.schemas.conversations import Message
from parley.schemas.problem import Problem
from parley.schemas.turns import ChatReply, KeyedTurn, Turn, TurnMessage, TurnStatus

ABANDONED = and_(
    TurnRow.status == TurnStatus.RUNNING,
    ~exists().where(WorkerRow.id == TurnRow.worker_id, WorkerRow.lease_until > utc_now()),
)


class SqlTurnReads:
    def __init__(self, session: AsyncSession, user_id: str) -> None:
        self._session = session
        self._user_id = user_id

    async def is_abandoned(self, turn_id: UUID) -> bool:
        query = self._mine().with_only_columns(TurnRow.id).where(TurnRow.id == turn_id, ABANDONED)
        return await self._session.scalar(query) is not None

    async def get(self, turn_id: UUID) -> Turn:
        row = await self._session.get(TurnRow, (self._user_id, turn_id))
        if row is None:
            raise TurnNotFound
        return await self._whole(row)

    async def seconds_since_end(self, turn_id: UUID) -> float:
        columns = (utc_now(), TurnRow.ended_at)
        query = self._mine().with_only_columns(*columns).where(TurnRow.id == turn_id)
        row = (await self._session.execute(query)).one_or_none()
        return 0 if row is None or row[1] is None else (row[0] - row[1]).total_seconds()

    async def recorded(self, turn_id: UUID) -> ChatReply | None:
        row = await self._session.get(TurnRow, (self._user_id, turn_id))
        return None if row is None else await self._recorded(row.conversation_id, turn_id)

    async def running(self, conversation_id: UUID) -> Turn | None:
        row = await self._session.scalar(
            self._mine()
            .where(TurnRow.conversation_id == conversation_id)
            .where(TurnRow.status == TurnStatus.RUNNING)
        )
        return None if row is None else _entity(row, [])

    async def last(self, conversation_id: UUID) -> Turn | None:
        newest = (
            select(MessageRow.turn_id)
            .where(
                MessageRow.user_id == self._user_id,
                MessageRow.conversation_id == conversation_id,
                ~MessageRow.superseded,
            )
            .order_by(MessageRow.position.desc())
            .limit(1)
        )
        row = await self._session.scalar(
            self._mine().where(TurnRow.id == newest.scalar_subquery())
        )
        return None if row is None else await self._whole(row)

    async def keyed(self, idempotency_key: str) -> KeyedTurn | None:
        row = await self._session.scalar(
            self._mine().where(TurnRow.idempotency_key == idempotency_key)
        )
        return None if row is None else KeyedTurn(await self._whole(row), row.fingerprint)

    async def wanted(self, worker_id: UUID) -> Sequence[UUID]:
        rows = await self._session.scalars(
            self._mine()
            .with_only_columns(TurnRow.id)
            .where(
                TurnRow.status == TurnStatus.RUNNING,
                TurnRow.worker_id == worker_id,
                ~TurnRow.cancel_requested,
            )
        )
        return [*rows]

    def _mine(self) -> Select[TurnRow]:
        return select(TurnRow).where(TurnRow.user_id == self._user_id)

    async def _recorded(self, conversation_id: UUID, turn_id: UUID) -> ChatReply | None:
        match await self._messages_of(conversation_id, turn_id):
            case [message, reply]:
                return ChatReply(
                    turn_id=turn_id,
                    conversation_id=conversation_id,
                    message=message,
                    reply=reply,
                )
            case _:
                return None

    async def _whole(self, row: TurnRow) -> Turn:
        return _entity(row, await self._messages_of(row.conversation_id, row.id))

    async def _messages_of(self, conversation_id: UUID, turn_id: UUID) -> list[Message]:
        """The message and its reply, or nothing."""
        rows = await self._session.scalars(
            select(MessageRow)
            .where(
                MessageRow.user_id == self._user_id,
                MessageRow.conversation_id == conversation_id,
                MessageRow.turn_id == turn_id,
            )
            .order_by(MessageRow.position)
        )
        return [message_of(row) for row in rows]


def _entity(row: TurnRow, messages: Sequence[Message]) -> Turn:
    return Turn(
        id=row.id,
        conversation_id=row.conversation_id,
        status=TurnStatus(row.status),
        message=TurnMessage(content=row.message, attachments=attachments_of(row)),
        reply=messages[1] if messages else None,
        problem=row.problem and Problem.model_validate(row.problem),
        replaces=row.replaces,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
