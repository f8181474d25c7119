from typing import Generic, TypeVar

from pydantic import Field

from parley.schemas.base import Entity
from parley.schemas.conversations import Conversation, Message
from parley.schemas.turns import Turn

Item = TypeVar("Item")


class Page(Entity, Generic[Item]):
    items: list[Item]
    next_cursor: str | None = Field(
        description="Send it as `cursor` for the next page; null on the last one."
    )


class ConversationDetail(Conversation):
    messages: list[Message] = Field(
        description="The newest 50 at most, oldest first; fewer where they are long."
    )
    messages_cursor: str | None = Field(
        description="Send it as `cursor` to the conversation's messages for the older ones."
    )
    running_turn: Turn | None = Field(description="The turn that is being answered now.")


class Deleted(Entity):
    id: str
    deleted: bool = True
