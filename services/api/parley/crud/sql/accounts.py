from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from parley.crud.sql.dialect import insert_into
from parley.models import UserRow, utc_now
from parley.schemas.accounts import Account, Credential


async def account_of(session: AsyncSession, credential: Credential) -> str | None:
    """Whose it is; the one query that is asked before it is known who asks."""
    return await session.scalar(select(UserRow.id).where(UserRow.email == credential.address))


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
        row = await self._session.get(UserRow, self._user_id)
        return None if row is None else Account.model_validate(row)
