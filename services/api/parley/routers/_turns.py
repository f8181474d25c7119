"""What every route says and answers that asks for a turn."""

from typing import Annotated, Any

from fastapi import Header, Request, Response

from parley.core.errors import (
    AccountGone,
    ConversationMoved,
    ConversationNotFound,
    Draining,
    IdempotencyKeyReused,
    ModelError,
    ModelNotOffered,
    ModelTimeout,
    ModelUnavailable,
    NothingToRegenerate,
    RateLimited,
    TooManyStreams,
    TurnCancelled,
    TurnInProgress,
    WorkerLost,
)
from parley.routers._events import MEDIA_TYPE, EventStream, frames_of
from parley.routers._responses import BODY, STORE, TOKEN, problems
from parley.schemas.turns import ChatReply, TurnOptions
from parley.services.chat import Asking
from parley.services.turns.service import Reading

_EXAMPLE = (
    'id: 1\nevent: turn\ndata: {"turn_id":"…","conversation_id":"…"}\n\n'
    'id: 2\nevent: delta\ndata: {"text":"You "}\n\n'
    'id: 3\nevent: done\ndata: {"turn_id":"…","conversation_id":"…","message":{…},"reply":{…}}\n\n'
)
# Each event of the stream, in the form that OpenAPI 3.2 gives them.
_EVENT = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "description": "Counts from 1; behind a gap, far on."},
        "event": {"enum": ["turn", "delta", "done", "error"]},
        "data": {"type": "string", "description": "JSON: the ids, a piece, the turn, a problem."},
    },
}
EVENTS: dict[str, Any] = {MEDIA_TYPE: {"schema": _EVENT, "example": _EXAMPLE}}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ChatReply,
        "description": "The recorded turn; as server-sent events, `turn`, then `delta` for each"
        " piece, then `done` with the recorded turn, or `error` with a problem.",
        "headers": {
            "Idempotency-Replayed": {
                "description": "`true` where the key's turn had ended before.",
                "schema": {"type": "string"},
            }
        },
        "content": EVENTS,
    },
}
REFUSALS = (
    *TOKEN,
    AccountGone,
    ConversationNotFound,
    TurnInProgress,
    TurnCancelled,
    NothingToRegenerate,
    ConversationMoved,
    *BODY,
    IdempotencyKeyReused,
    ModelNotOffered,
    RateLimited,
    TooManyStreams,
    ModelError,
    ModelUnavailable,
    ModelTimeout,
    *STORE,
    WorkerLost,
    Draining,
)

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        pattern="^[0-9]{1,15}$",
        description="The `id` of the last event that you have; a browser sends it by itself.",
    ),
]


def answers(*further: Any) -> dict[int | str, dict[str, Any]]:
    return ANSWERS | problems(*REFUSALS, *further)


def asking_of(request: Request, body: TurnOptions, idempotency_key: str | None) -> Asking:
    return Asking(
        request.state.request_id, body.stream or _accepts_events(request), idempotency_key
    )


async def answer(request: Request, asking: Asking, reading: Reading) -> Response:
    """The reply, as events or whole; however the request ends, it is read no more then."""
    request.state.at_end.append(reading.leave)
    headers = {"Idempotency-Replayed": "true"} if reading.is_replayed else {}
    if asking.wants_events:
        return EventStream(frames_of(reading.events.read()), headers)
    request.state.answer_headers.update(headers)
    reply = await reading.events.outcome()
    return Response(reply.model_dump_json(), media_type="application/json")


def _accepts_events(request: Request) -> bool:
    accepted = request.headers.get("Accept", "").lower()
    return any(item.split(";")[0].strip() == MEDIA_TYPE for item in accepted.split(","))
