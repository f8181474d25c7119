"""What a client asks for, before there is a turn of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class TurnOrder:
    """
    A turn to be run.

    `message` is None for that of the turn it replaces, with its attachments; `conversation_id` for a
    new one. The `fingerprint` says of two requests with one key whether they ask for the same.
    """

    user_id: str
    request_id: str
    message: str | None
    attachments: Sequence[UUID]
    conversation_id: UUID | None
    replaces_last: bool
    model: str
    waits: bool
    idempotency_key: str | None
    fingerprint: str


def fingerprint_of(
    message: str | None,
    attachments: Sequence[UUID],
    conversation_id: UUID | None,
    model: str | None,
    *,
    replaces_last: bool,
) -> str:
    """SHA-256 of all that makes another turn of it; how it is answered is not part of that."""
    asked: list[object] = [message, str(conversation_id), replaces_last, model]
    if attachments:  # without any as it was before there were any: keys outlive a release
        asked.append([*map(str, attachments)])
    return sha256(json.dumps(asked).encode()).hexdigest()
