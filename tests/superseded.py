"""A turn that another one took the place of."""

from sqlalchemy import update

from parley.crud.memory.store import MemoryStore, conversation_store, message_store
from parley.crud.ports import Store
from parley.models import ConversationRow, MessageRow
from parley.schemas.turns import ChatReply
from tests.factories import record


async def replace_last(store: Store, user_id: str, last: ChatReply, message: str) -> ChatReply:
    """Hides the last turn's messages, and has another turn take their positions."""
    length = last.message.position - 1
    async with store.begin(user_id) as tx:
        if isinstance(store, MemoryStore):
            for hidden in (last.message, last.reply):
                key = f"{user_id}/{hidden.id}"
                message_store[key] = message_store[key]._replace(superseded=True)
            key = f"{user_id}/{last.conversation_id}"
            conversation_store[key] = conversation_store[key].model_copy(update={"length": length})
        else:
            session = tx.messages._session  # type: ignore[attr-defined]  # noqa: SLF001 - no port does this
            await session.execute(
                update(MessageRow)
                .where(MessageRow.user_id == user_id, MessageRow.turn_id == last.turn_id)
                .values(superseded=True)
            )
            await session.execute(
                update(ConversationRow)
                .where(
                    ConversationRow.user_id == user_id,
                    ConversationRow.id == last.conversation_id,
                )
                .values(length=length)
            )
    return await record(store, user_id, last.conversation_id, message)
