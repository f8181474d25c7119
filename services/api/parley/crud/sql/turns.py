from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, and_, delete, insert, update
from sqlalchemy.exc import IntegrityError

from parley.core.errors import (
    AppError,
    ConversationMoved,
    ConversationNotFound,
    FileNotFound,
    TurnInProgress,
    TurnNotFound,
    WorkerLost,
)
from parley.crud.sql.dialect import insert_into
from parley.crud.sql.turn_reads import ABANDONED, SqlTurnReads
from parley.crud.sql.workers import tell
from parley.models import ConversationRow, MessageRow, TurnAttachmentRow, TurnRow, utc_now
from parley.schemas.conversations import MessageStatus
from parley.schemas.files import FileMetadata
from parley.schemas.problem import Problem
from parley.schemas.turns import (
    ChatReply,
    NewTurn,
    Reply,
    Turn,
    TurnStatus,
    follows,
    recorded_turn,
)


class SqlTurns(SqlTurnReads):
    async def close_abandoned(self, conversation_id: UUID, problem: Problem) -> bool:
        abandoned = and_(TurnRow.conversation_id == conversation_id, ABANDONED)
        return await self._close(abandoned, TurnStatus.FAILED, problem)

    async def accept(self, turn: NewTurn) -> None:
        if not await self._insert(turn):
            raise TurnInProgress
        if turn.attachments:
            await self._attach(turn)

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
                    message.model_dump(exclude={"attachments", "superseded"})
                    | {"attachments": _dumped(message.attachments)}
                    | shared
                    for message in (recorded.message, recorded.reply)
                ]
            )
        )
        return recorded

    async def close(self, turn: NewTurn, status: TurnStatus, problem: Problem) -> None:
        if await self._close(_held_by(turn), status, problem):
            return
        row = await self._session.get(TurnRow, (self._user_id, turn.id))
        if row is not None:
            if row.problem and row.problem["code"] == WorkerLost.code:
                raise WorkerLost
            return
        # A commit whose answer was lost may still be on its way: the same row again waits for it.
        never_came = await self._insert(turn)
        if never_came or not await self._close(_held_by(turn), status, problem):
            raise ConversationNotFound

    async def request_cancel(self, turn_id: UUID) -> Turn:
        # First: one that is committed after the update, and before it is read, would be told as running
        # and never be asked to end.
        query = self._mine().with_only_columns(TurnRow.id).where(TurnRow.id == turn_id)
        if await self._session.scalar(query) is None:
            raise TurnNotFound
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
            await tell(self._session, [worker_id])
        return await self.get(turn_id)

    async def _insert(self, turn: NewTurn) -> bool:
        """False where its key or the conversation's running slot is taken, or itself is there."""
        insert = insert_into(self._session, TurnRow).values(
            user_id=self._user_id,
            status=TurnStatus.RUNNING,
            cancel_requested=False,
            created_at=utc_now(),
            attachments=_dumped(turn.attachments),
            **turn.model_dump(exclude={"attachments"}),
        )
        try:
            inserted = await self._session.scalar(
                insert.on_conflict_do_nothing().returning(TurnRow.id)
            )
        except IntegrityError as error:
            # The one constraint that can fail: the conversation is not there, for this user.
            raise ConversationNotFound from error
        return inserted is not None

    async def _attach(self, turn: NewTurn) -> None:
        rows = [
            {"user_id": self._user_id, "turn_id": turn.id, "file_id": file.id, "ordinal": ordinal}
            for ordinal, file in enumerate(turn.attachments)
        ]
        try:
            await self._session.execute(insert(TurnAttachmentRow).values(rows))
        except IntegrityError as error:
            # The one constraint that can fail: a file was deleted since it was looked up.
            raise FileNotFound from error

    async def _close(
        self, which: ColumnElement[bool], status: TurnStatus, problem: Problem
    ) -> bool:
        """Without messages: its key is free again, and so are its files."""
        ended = await self._end(which, status, problem, idempotency_key=None, attachments=None)
        if ended is None:
            return False
        await self._session.execute(
            delete(TurnAttachmentRow)
            .where(
                TurnAttachmentRow.user_id == self._user_id, TurnAttachmentRow.turn_id == ended.id
            )
            .execution_options(synchronize_session=False)
        )
        return True

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
    ) -> Row[UUID, datetime, datetime | None] | None:
        result = await self._session.execute(
            update(TurnRow)
            .where(TurnRow.user_id == self._user_id, which)
            .values(
                status=status,
                problem=problem and problem.model_dump(mode="json"),
                ended_at=utc_now(),
                **values,
            )
            .returning(TurnRow.id, TurnRow.created_at, TurnRow.ended_at)
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


def _held_by(turn: NewTurn) -> ColumnElement[bool]:
    return and_(
        TurnRow.id == turn.id,
        TurnRow.fence == turn.fence,
        TurnRow.status == TurnStatus.RUNNING,
    )


def _dumped(attachments: Sequence[FileMetadata]) -> list[dict[str, Any]] | None:
    """None for none: most turns have none, and nothing is written for them."""
    return [file.model_dump(mode="json") for file in attachments] or None
