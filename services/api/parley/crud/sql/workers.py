"""Who runs a user's turns, and how they are told to look which are to go on."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from parley.models import TurnRow, WorkerRow
from parley.schemas.turns import TurnStatus


async def workers_of(
    session: AsyncSession, user_id: str, conversation_id: UUID | None = None
) -> Sequence[UUID]:
    """Those that run a turn of the user's, in this conversation or in any."""
    query = select(TurnRow.worker_id).where(
        TurnRow.user_id == user_id, TurnRow.status == TurnStatus.RUNNING
    )
    if conversation_id is not None:
        query = query.where(TurnRow.conversation_id == conversation_id)
    return [*await session.scalars(query)]


async def tell(session: AsyncSession, worker_ids: Iterable[UUID]) -> None:
    """
    Their counts go up. The last thing in a transaction, and in one order: as all do it, no two wait
    for each other.
    """
    for worker_id in sorted(worker_ids):
        await session.execute(
            update(WorkerRow)
            .where(WorkerRow.id == worker_id)
            .values(cancels=WorkerRow.cancels + 1)
            .execution_options(synchronize_session=False)
        )
