from typing import Any

from fastapi import APIRouter, Request, Response

from parley.core.errors import (
    AccountGone,
    ConversationMoved,
    ConversationNotFound,
    Draining,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
    NotYourResource,
    RateLimited,
    TooManyStreams,
    TurnInProgress,
    WorkerLost,
)
from parley.dependencies.auth import Owner
from parley.dependencies.limits import RequestLimits
from parley.dependencies.services import Chat
from parley.routers._events import EventStream, frames_of
from parley.routers._responses import BODY, STORE, TOKEN, JsonRoute, problems
from parley.schemas.turns import ChatReply, ChatRequest, TurnStarted

EVENT_STREAM = "text/event-stream"

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
        "id": {"type": "string", "description": "Counts from 1."},
        "event": {"enum": ["turn", "delta", "done", "error"]},
        "data": {"type": "string", "description": "JSON: the ids, a piece, the turn, a problem."},
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ChatReply,
        "description": "The recorded turn; as server-sent events, `turn`, then `delta` for each"
        " piece, then `done` with the recorded turn, or `error` with a problem.",
        "content": {EVENT_STREAM: {"schema": _EVENT, "example": _EXAMPLE}},
    },
    **problems(
        *TOKEN,
        AccountGone,
        NotYourResource,
        ConversationNotFound,
        TurnInProgress,
        ConversationMoved,
        *BODY,
        RateLimited,
        TooManyStreams,
        ModelError,
        ModelUnavailable,
        ModelTimeout,
        *STORE,
        WorkerLost,
        Draining,
    ),
}

router = APIRouter(prefix="/{user_id}/chat", tags=["chat"], route_class=JsonRoute)


@router.post("", responses=_RESPONSES)
async def send_message(
    owner: Owner, body: ChatRequest, chat: Chat, limits: RequestLimits, request: Request
) -> Response:
    """
    Send one message and get the reply.

    Without `conversation_id` a conversation is made, titled by the message's first 80 characters.
    With `stream` or `Accept: text/event-stream` the reply comes as it is written. Closing the
    connection does not end the turn: it is recorded, and the conversation has it.
    """
    await limits.count_message(owner)
    events = chat.stream(owner, body, await limits.take_slot(owner))
    # A refusal is raised here, before anything is sent: a problem, never half a stream.
    started = await anext(events)
    if isinstance(started, TurnStarted) and (body.stream or _wants_events(request)):
        return EventStream(frames_of(started, events, request.state.request_id))
    *_, reply = [event async for event in events]
    return Response(reply.model_dump_json(), media_type="application/json")


def _wants_events(request: Request) -> bool:
    accepted = request.headers.get("Accept", "").lower()
    return any(item.split(";")[0].strip() == EVENT_STREAM for item in accepted.split(","))
