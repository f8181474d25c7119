from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, and_, exists, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from parley.core.errors import (
    AppError,
    ConversationMoved,
    ConversationNotFound,
    TurnInProgress,
    TurnNotFound,
    WorkerLost,
)
from parley.crud.sql.dialect import insert_into
from parley.crud.sql.messages import message_of
from parley.models import ConversationRow, MessageRow, TurnRow, WorkerRow, utc_now
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

_ABANDONED = and_(
    TurnRow.status == TurnStatus.RUNNING,
    ~exists().where(WorkerRow.id == TurnRow.worker_id, WorkerRow.lease_until > utc_now()),
)


class SqlTurns:
    def __init__(self, session: AsyncSession, user_id: str) -> None:
        self._session = session
        self._user_id = user_id

    async def is_abandoned(self, turn_id: UUID) -> bool:
        query = self._mine().with_only_columns(TurnRow.id).where(TurnRow.id == turn_id, _ABANDONED)
        return await self._session.scalar(query) is not None

    async def close_abandoned(self, conversation_id: UUID, problem: Problem) -> bool:
        abandoned = and_(TurnRow.conversation_id == conversation_id, _ABANDONED)
        closed = await self._end(abandoned, TurnStatus.FAILED, problem, idempotency_key=None)
        return closed is not None

    async def accept(self, turn: NewTurn) -> None:
        insert = insert_into(self._session, TurnRow).values(
            user_id=self._user_id,
            status=TurnStatus.RUNNING,
            cancel_requested=False,
            created_at=utc_now(),
            **turn.model_dump(),
        )
        try:
            accepted = await self._session.scalar(
                insert.on_conflict_do_nothing().returning(TurnRow.id)
            )
        except IntegrityError as error:
            # The one constraint that can fail: the conversation is not there, for this user.
            raise ConversationNotFound from error
        if accepted is None:
            raise TurnInProgress

    async def record(
        self, turn: NewTurn, length: int, reply: Reply, problem: Problem | None
    ) -> ChatReply:
        # The conversation first, as in deleting it: two orders of locks would be a deadlock.
        if not await self._claim(turn, length):
            return await self._recorded_before(turn, ConversationMoved())
        ended = await self._end(_held_by(turn), TurnStatus(reply.status), problem)
        if ended is None:
            return await self._recorded_before(turn, WorkerLost())
        recorded = recorded_turn(
            turn, length, reply, asked_at=ended.created_at, answered_at=ended.ended_at
        )
        is_hidden = turn.replaces is not None and reply.status is MessageStatus.FAILED
        # Before what takes its place, and as a statement of its own: positions are unique.
        if turn.replaces is not None:
            await self._hide(turn, turn.replaces, is_hidden=is_hidden)
        shared = {
            "user_id": self._user_id,
            "turn_id": turn.id,
            "status": reply.status,
            "superseded": is_hidden,
        }
        await self._session.execute(
            insert(MessageRow).values(
                [
                    message.model_dump(exclude={"attachments", "superseded"}) | shared
                    for message in (recorded.message, recorded.reply)
                ]
            )
        )
        return recorded

    async def close(self, turn: NewTurn, status: TurnStatus, problem: Problem) -> None:
        ended = await self._end(_held_by(turn), status, problem, idempotency_key=None)
        if ended is None and await self._session.get(TurnRow, (self._user_id, turn.id)) is None:
            raise ConversationNotFound

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

    async def request_cancel(self, turn_id: UUID) -> Turn:
        worker_id = await self._session.scalar(
            update(TurnRow)
            .where(
                TurnRow.user_id == self._user_id,
                TurnRow.id == turn_id,
                TurnRow.status == TurnStatus.RUNNING,
                ~TurnRow.cancel_requested,
            )
            .values(cancel_requested=True)
            .returning(TurnRow.worker_id)
            .execution_options(synchronize_session=False)
        )
        if worker_id is not None:
            await self._session.execute(
                update(WorkerRow)
                .where(WorkerRow.id == worker_id)
                .values(cancels=WorkerRow.cancels + 1)
                .execution_options(synchronize_session=False)
            )
        return await self.get(turn_id)

    async def to_cancel(self, worker_id: UUID) -> Sequence[UUID]:
        rows = await self._session.scalars(
            self._mine()
            .with_only_columns(TurnRow.id)
            .where(
                TurnRow.status == TurnStatus.RUNNING,
                TurnRow.worker_id == worker_id,
                TurnRow.cancel_requested,
            )
        )
        return [*rows]

    def _mine(self) -> Select[TurnRow]:
        return select(TurnRow).where(TurnRow.user_id == self._user_id)

    async def _claim(self, turn: NewTurn, length: int) -> bool:
        claimed = await self._session.scalar(
            update(ConversationRow)
            .where(
                ConversationRow.user_id == self._user_id,
                ConversationRow.id == turn.conversation_id,
                ConversationRow.length == length,
            )
            .values(length=follows(turn, length) + 2, updated_at=utc_now())
            .returning(ConversationRow.length)
        )
        return claimed is not None

    async def _hide(self, turn: NewTurn, replaced: UUID, *, is_hidden: bool) -> None:
        """The one that is replaced, or else the turn that was to replace it."""
        if not is_hidden:
            await self._session.execute(
                update(MessageRow)
                .where(
                    MessageRow.user_id == self._user_id,
                    MessageRow.conversation_id == turn.conversation_id,
                    MessageRow.turn_id == replaced,
                )
                .values(superseded=True)
                .execution_options(synchronize_session=False)
            )
        hidden, shown = (turn.id, replaced) if is_hidden else (replaced, turn.id)
        await self._session.execute(
            update(TurnRow)
            .where(TurnRow.user_id == self._user_id, TurnRow.id == hidden)
            .values(superseded_by=shown)
            .execution_options(synchronize_session=False)
        )

    async def _end(
        self,
        which: ColumnElement[bool],
        status: TurnStatus,
        problem: Problem | None,
        **values: Any,
    ) -> Row[datetime, datetime | None] | None:
        result = await self._session.execute(
            update(TurnRow)
            .where(TurnRow.user_id == self._user_id, which)
            .values(
                status=status,
                problem=problem and problem.model_dump(mode="json"),
                ended_at=utc_now(),
                **values,
            )
            .returning(TurnRow.created_at, TurnRow.ended_at)
            .execution_options(synchronize_session=False)
        )
        return result.one_or_none()

    async def _recorded_before(self, turn: NewTurn, otherwise: AppError) -> ChatReply:
        """What an earlier attempt, whose outcome was unknown, did; or why there is none."""
        row = await self._session.get(TurnRow, (self._user_id, turn.id))
        if row is None:
            raise ConversationNotFound
        if recorded := await self._recorded(turn.conversation_id, turn.id):
            return recorded
        raise otherwise if row.status == TurnStatus.RUNNING else WorkerLost

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


def _held_by(turn: NewTurn) -> ColumnElement[bool]:
    return and_(
        TurnRow.id == turn.id,
        TurnRow.fence == turn.fence,
        TurnRow.status == TurnStatus.RUNNING,
    )


def _entity(row: TurnRow, messages: Sequence[Message]) -> Turn:
    return Turn(
        id=row.id,
        conversation_id=row.conversation_id,
        status=TurnStatus(row.status),
        message=TurnMessage(content=row.message),
        reply=messages[1] if messages else None,
        problem=row.problem and Problem.model_validate(row.problem),
        replaces=row.replaces,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
