from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from pydantic import ConfigDict, Field, JsonValue

from parley.schemas.base import STORABLE, Entity, RequestBody, SafeJson, absent
from parley.schemas.files import FileMetadata

UNTITLED = "New conversation"

Title = Annotated[
    str, Field(strict=True, min_length=1, max_length=200, examples=["Holiday plans"]), STORABLE
]
Instructions = Annotated[
    str,
    Field(
        strict=True,
        max_length=32_000,
        description="What the model is told before the history of every turn.",
        examples=["Answer in French."],
    ),
    STORABLE,
]
Metadata = Annotated[
    SafeJson,
    Field(
        description="Yours to keep anything in: at most 16,384 characters, 32 levels, integers of 53 bits.",
        examples=[{"folder": "private"}],
    ),
]


class Role(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"


class MessageStatus(StrEnum):
    """How the turn of a message ended; a message of the user is always complete."""

    COMPLETE = "complete"
    CANCELLED = "cancelled"
    FAILED = "failed"


def _may_lack_superseded(schema: dict[str, Any]) -> None:
    schema["required"] = [name for name in schema["required"] if name != "superseded"]


class Message(Entity):
    model_config = ConfigDict(json_schema_extra=_may_lack_superseded)

    id: UUID
    conversation_id: UUID
    position: int = Field(ge=1, description="1 for the first; no gaps.")
    role: Role
    content: str
    status: MessageStatus
    attachments: list[FileMetadata] = []
    model: str | None = Field(None, description="What wrote a reply.", examples=["echo"])
    usage: dict[str, JsonValue] | None = Field(
        None, description="What the model counted, if it did."
    )
    created_at: datetime
    superseded: bool | None = Field(
        None,
        exclude_if=absent,
        description="Whether another one is shown in its place; said only where it was asked for.",
    )


class Conversation(Entity):
    id: UUID
    title: str = Field(examples=["Holiday plans"])
    instructions: str | None
    metadata: dict[str, Any] = Field(examples=[{"folder": "private"}])
    length: int = Field(ge=0, description="Messages in it.")
    created_at: datetime
    updated_at: datetime


class ConversationDraft(RequestBody):
    """What a client says of a conversation. What it leaves out is as shown here."""

    title: Title = UNTITLED
    instructions: Instructions | None = None
    metadata: Metadata = {}


def _without_defaults(schema: dict[str, Any]) -> None:
    for field in schema["properties"].values():
        field.pop("default", None)


class ConversationPatch(ConversationDraft):
    """What to change; a field left out stays as it is."""

    # A client that filled in a draft's defaults would take away what is there.
    model_config = ConfigDict(json_schema_extra=_without_defaults)


class Order(StrEnum):
    OLDEST_FIRST = "asc"
    NEWEST_FIRST = "desc"


class ConversationKey(NamedTuple):
    """A place in the list of conversations, newest first."""

    updated_at: datetime
    id: UUID


class MessageKey(NamedTuple):
    """A place among a conversation's messages; a message that was replaced shares its position."""

    position: int
    id: UUID
