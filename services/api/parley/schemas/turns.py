from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple, Self
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from parley.schemas.base import STORABLE, Entity, RequestBody, absent
from parley.schemas.conversations import Message, MessageStatus, Role
from parley.schemas.files import FileMetadata
from parley.schemas.problem import Problem


class TurnStatus(StrEnum):
    RUNNING = "running"
    COMPLETE = "complete"
    CANCELLED = "cancelled"
    FAILED = "failed"


ATTACHMENTS_MAX = 10


def _each_once(file_ids: list[UUID]) -> list[UUID]:
    if len(set(file_ids)) < len(file_ids):
        code, message = "attached_twice", "A file is attached once"
        raise PydanticCustomError(code, message)
    return file_ids


class TurnOptions(RequestBody):
    """How a turn is to be run and answered."""

    stream: bool = Field(
        default=False,
        strict=True,
        description="Answer with server-sent events; so does `Accept: text/event-stream`.",
    )
    if_busy: Literal["reject", "wait"] = Field(
        "reject",
        description="While another turn of the conversation runs: `reject` is 409 at once, `wait` waits"
        " up to TURN_WAIT_SECONDS for it to end; what waits cannot be taken back.",
    )
    model: Annotated[str, Field(strict=True, min_length=1, max_length=200), STORABLE] | None = (
        Field(
            None,
            description="One of MODELS; without it the operator's own choice.",
            examples=["echo"],
        )
    )


class ChatRequest(TurnOptions):
    # What /docs fills in: an invented conversation would only be 404.
    model_config = ConfigDict(json_schema_extra={"examples": [{"message": "Hello"}]})

    message: Annotated[
        str,
        Field(strict=True, min_length=1, max_length=32_000, examples=["Hello"]),
        STORABLE,
    ]
    conversation_id: UUID | None = Field(None, description="Leave it out to start a conversation.")
    attachments: Annotated[
        list[UUID],
        Field(
            max_length=ATTACHMENTS_MAX,
            description="Ids of your files, each once: the model is shown those of text, and images if"
            " it takes them; of all others their names.",
            examples=[[]],
        ),
        AfterValidator(_each_once),
    ] = []
    replace_last: bool = Field(
        default=False,
        strict=True,
        description="Put this message, and its reply, in the place of the conversation's last ones.",
    )

    @model_validator(mode="after")
    def _names_what_it_replaces(self) -> Self:
        if self.replace_last and self.conversation_id is None:
            code, message = "conversation_missing", "`replace_last` needs a conversation_id"
            raise PydanticCustomError(code, message)
        return self


class RegenerateRequest(TurnOptions):
    """The body may be left out."""


class ChatReply(Entity):
    """A turn that was recorded: the message and its reply."""

    turn_id: UUID
    conversation_id: UUID
    message: Message
    reply: Message


class TurnMessage(Entity):
    """What the user said, kept on the turn whatever becomes of it."""

    content: str
    attachments: list[FileMetadata] = []


class Turn(Entity):
    """A message, and what became of it."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    id: UUID
    conversation_id: UUID
    status: TurnStatus
    message: TurnMessage
    reply: Message | None = Field(None, exclude_if=absent, description="If it was recorded.")
    problem: Problem | None = Field(None, exclude_if=absent, description="Why it failed.")
    replaces: UUID | None = Field(
        None,
        exclude_if=absent,
        description="The turn whose messages it is to take the place of, or took.",
    )
    created_at: datetime
    ended_at: datetime | None = Field(None, exclude_if=absent)


class NewTurn(Entity):
    """
    A turn that asks to be accepted.

    `fence` is known to the process that runs the turn and to nobody else: only who can
    name it may end the turn.
    """

    id: UUID
    conversation_id: UUID
    message: str
    worker_id: UUID
    fence: UUID
    idempotency_key: str | None = None
    fingerprint: str | None = None
    attachments: list[FileMetadata] = []
    replaces: UUID | None = None
    """The turn whose place it takes, if it is recorded: the last one shown."""


class KeyedTurn(NamedTuple):
    """The turn that an idempotency key was given for, and what was asked with it."""

    turn: Turn
    fingerprint: str | None


class Reply(Entity):
    """
    What the model said, and how that ended.

    The ids of both messages are made before recording, so that recording again is the same.
    """

    id: UUID
    message_id: UUID
    content: str
    status: MessageStatus
    model: str | None
    usage: dict[str, int] | None = None


def follows(turn: NewTurn, length: int) -> int:
    """The last position before the turn's own, in a conversation of this length."""
    return length if turn.replaces is None else length - 2


def recorded_turn(
    turn: NewTurn, length: int, reply: Reply, *, asked_at: datetime, answered_at: datetime
) -> ChatReply:
    """A turn's two messages, behind `length` or in the place of the last ones."""
    before = follows(turn, length)
    return ChatReply(
        turn_id=turn.id,
        conversation_id=turn.conversation_id,
        message=Message(
            id=reply.message_id,
            conversation_id=turn.conversation_id,
            position=before + 1,
            role=Role.USER,
            content=turn.message,
            status=MessageStatus.COMPLETE,
            attachments=turn.attachments,
            created_at=asked_at,
        ),
        reply=Message(
            id=reply.id,
            conversation_id=turn.conversation_id,
            position=before + 2,
            role=Role.ASSISTANT,
            content=reply.content,
            status=reply.status,
            model=reply.model,
            usage=reply.usage,
            created_at=answered_at,
        ),
    )


class TurnStarted(Entity):
    """The first event of every turn."""

    turn_id: UUID
    conversation_id: UUID


class Delta(Entity):
    """A piece of a reply that is still being written."""

    text: str
