from uuid import UUID

from pydantic import ConfigDict, Field

from parley.schemas.base import Entity, absent


class Fault(Entity):
    """One field that was refused. Never the value that was sent."""

    location: list[str | int] = Field(examples=[["body", "message"]])
    message: str = Field(examples=["Field required"])
    code: str = Field(examples=["missing"])


class Problem(Entity):
    """Why a request failed: problem details (RFC 9457). Branch on `code`, which is stable."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    type: str = Field(examples=["/problems/conversation-not-found"])
    title: str = Field(examples=["Conversation not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["You have no conversation with this id."])
    code: str = Field(examples=["conversation-not-found"])
    instance: str | None = Field(
        None,
        exclude_if=absent,
        description="The path that was asked.",
        examples=["/api/v1/me/chat"],
    )
    request_id: str | None = Field(
        None, exclude_if=absent, examples=["0193497d8a7d7c0bb4f6d1f0a4a7ce55"]
    )
    errors: list[Fault] | None = Field(
        None, exclude_if=absent, description="What was refused, with status 422."
    )
    turn_id: UUID | None = Field(
        None, exclude_if=absent, description="The turn that failed, once there was one."
    )
    conversation_id: UUID | None = Field(
        None, exclude_if=absent, description="Where to try again."
    )
