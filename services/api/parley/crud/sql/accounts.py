from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningDelete

from parley.core.errors import AccountGone, Overloaded
from parley.core.ids import is_of_local_account
from parley.crud.sql.dialect import insert_into
from parley.crud.sql.workers import tell, workers_of
from parley.models import Base, ConversationRow, FileRow, UserRow, utc_now
from parley.schemas.accounts import Account


def is_enabled(user_id: str) -> ColumnElement[bool]:
    """Whether it is a local account, and may be used."""
    return exists().where(UserRow.id == user_id, UserRow.disabled_at.is_(None))


async def hold_account(session: AsyncSession, user_id: str) -> None:
    """
    Nobody deletes the user's local account, if they should have one, before this transaction ends.

    Raises:
        AccountGone: somebody has.
    """
    if not is_of_local_account(user_id):
        return
    query = select(UserRow.id).where(UserRow.id == user_id)
    if await session.scalar(query.with_for_update(read=True, key_share=True)) is None:
        raise AccountGone


class SqlAccounts:
    def __init__(self, session: AsyncSession, user_id: str) -> None:
        self._session = session
        self._user_id = user_id

    async def create(self, email: str, password_hash: str) -> Account | None:
        row = await self._session.scalar(
            insert_into(self._session, UserRow)
            .values(
                id=self._user_id,
                email=email,
                password_hash=password_hash,
                created_at=utc_now(),
            )
            .on_conflict_do_nothing(index_elements=["email"])
            .returning(UserRow)
        )
        return None if row is None else Account.model_validate(row)

    async def get(self) -> Account | None:
        row = await self._session.scalar(select(UserRow).where(UserRow.id == self._user_id))
        return None if row is None else Account.model_validate(row)

    async def lock(self) -> Account | None:
        # SQLite has no such words, and no need of them: there is one who writes.
        query = select(UserRow).where(UserRow.id == self._user_id).with_for_update()
        row = await self._session.scalar(query)
        return None if row is None else Account.model_validate(row)

    async def set_password(self, password_hash: str) -> None:
        await self._session.execute(
            update(UserRow).where(UserRow.id == self._user_id).values(password_hash=password_hash)
        )

    async def set_disabled(self, *, is_disabled: bool) -> None:
        # The moment of the first time stays.
        disabled_at = func.coalesce(UserRow.disabled_at, utc_now()) if is_disabled else None
        await self._session.execute(
            update(UserRow).where(UserRow.id == self._user_id).values(disabled_at=disabled_at)
        )

    async def delete(self) -> Sequence[UUID]:
        # First of all: what is being begun for it is waited for, and goes too.
        await self.lock()
        # As recording a turn does it, the conversation first: two orders would be a deadlock.
        conversations = select(ConversationRow.id).where(ConversationRow.user_id == self._user_id)
        await self._session.execute(conversations.order_by(ConversationRow.id).with_for_update())
        running_at = await workers_of(self._session, self._user_id)
        files: Sequence[UUID] = ()
        # Every table there is, so that none is forgotten when there are more.
        for table in reversed(Base.metadata.sorted_tables):
            if "user_id" not in table.columns:
                continue
            rows = delete(table).where(table.c.user_id == self._user_id)
            if table is FileRow.__table__:
                files = await self._delete_files(rows.returning(table.c.id))
            else:
                await self._session.execute(rows)
        await self._session.execute(delete(UserRow).where(UserRow.id == self._user_id))
        await tell(self._session, running_at)
        return files

    async def _delete_files(self, rows: ReturningDelete[Any]) -> Sequence[UUID]:
        try:
            return [*await self._session.scalars(rows)]
        except IntegrityError as error:
            # Of a user without a local account, which would have been waited for.
            msg = "A message of this account is just being begun. Try again shortly."
            raise Overloaded(msg) from error
