"""What a client asks for, before there is a turn of it."""

import json
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class TurnOrder:
    """
    A turn to be run.

    `message` is None for that of the turn it replaces, `conversation_id` for a new one. The
    `fingerprint` says of two requests with one key whether they ask for the same.
    """

    user_id: str
    request_id: str
    message: str | None
    conversation_id: UUID | None
    replaces_last: bool
    model: str
    waits: bool
    idempotency_key: str | None
    fingerprint: str


def fingerprint_of(
    message: str | None, conversation_id: UUID | None, model: str | None, *, replaces_last: bool
) -> str:
    """SHA-256 of all that makes another turn of it; how it is answered is not part of that."""
    asked = [message, str(conversation_id), replaces_last, model]
    return sha256(json.dumps(asked).encode()).hexdigest()
