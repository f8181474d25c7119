from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from parley.core.errors import Draining, EventsGone, TooManyStreams, TurnNotFound
from parley.dependencies.auth import UserId
from parley.dependencies.limits import RequestLimits
from parley.dependencies.services import Turns
from parley.routers._events import EventStream, frames_of
from parley.routers._responses import STORE, TOKEN, JsonRoute, problems
from parley.routers._turns import EVENTS, LastEventId
from parley.schemas.turns import Turn

_EVENTS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "What you have not had yet, and what is to come.", "content": EVENTS},
    204: {"description": "There is nothing behind the last event that you have."},
    **problems(*TOKEN, TurnNotFound, EventsGone, TooManyStreams, *STORE, Draining),
}

router = APIRouter(prefix="/turns", tags=["chat"], route_class=JsonRoute)


@router.get("/{turn_id}", responses=problems(*TOKEN, TurnNotFound, *STORE))
async def get_turn(user_id: UserId, turn_id: UUID, turns: Turns) -> Turn:
    """What became of a message: a failed turn keeps it, and says why it failed."""
    return await turns.get(user_id, turn_id)


@router.get(
    "/{turn_id}/events",
    response_class=Response,
    responses=_EVENTS_RESPONSES,
)
async def read_turn_events(
    user_id: UserId,
    turn_id: UUID,
    turns: Turns,
    *,
    limits: RequestLimits,
    request: Request,
    last_event_id: LastEventId = None,
    after: Annotated[
        int,
        Query(
            ge=0,
            le=10**15,
            description="The same as Last-Event-ID, which counts if both are there.",
        ),
    ] = 0,
) -> Response:
    """
    A turn's events again, from the one behind the last that you have: byte for byte as they were.

    While it runs and for STREAM_RETENTION_SECONDS after; then 410, and the turn itself has the reply.
    Where events were lost, the last one comes alone, under a number behind all others: `done` has the
    whole reply in it.
    """
    await limits.take_reading_slot(user_id)
    reading = await turns.read(user_id, turn_id)
    request.state.at_end.append(reading.leave)
    had = after if last_event_id is None else int(last_event_id)
    if not reading.events.has_more(had):
        return Response(status_code=204)
    return EventStream(frames_of(reading.events.read(had)))


@router.post(
    "/{turn_id}/cancel", status_code=202, responses=problems(*TOKEN, TurnNotFound, *STORE)
)
async def cancel_turn(user_id: UserId, turn_id: UUID, turns: Turns) -> Turn:
    """
    Have a turn end with what it has, within a second, whichever process runs it.

    One that has said something is recorded as `cancelled`; one that has ended stays as it is.
    """
    return await turns.cancel(user_id, turn_id)
