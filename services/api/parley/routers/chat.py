from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Request, Response

from parley.core.errors import FileNotFound, NotYourResource
from parley.dependencies.auth import Owner, UserId
from parley.dependencies.idempotency import IdempotencyKey
from parley.dependencies.limits import RequestLimits
from parley.dependencies.services import Chat
from parley.routers._responses import JsonRoute
from parley.routers._turns import answer, answers, asking_of
from parley.schemas.turns import ChatRequest, RegenerateRequest

router = APIRouter(prefix="/{user_id}/chat", tags=["chat"], route_class=JsonRoute)
regenerating = APIRouter(prefix="/conversations", tags=["chat"], route_class=JsonRoute)


@router.post("", responses=answers(NotYourResource, FileNotFound))
async def send_message(
    owner: Owner,
    body: ChatRequest,
    *,
    key: IdempotencyKey,
    chat: Chat,
    limits: RequestLimits,
    request: Request,
) -> Response:
    """
    Send one message and get the reply.

    Without `conversation_id` a conversation is made, titled by the message's first 80 characters.
    `attachments` go with the message: the echo tells what it was given of them.
    With `stream` or `Accept: text/event-stream` the reply comes as it is written. Closing the
    connection does not end the turn: it is recorded, and its events can be read again.
    """
    asking = asking_of(request, body, key)
    reading = await chat.send(owner, body, asking, limits.for_turn(owner))
    return await answer(request, asking, reading)


@regenerating.post("/{conversation_id}/regenerate", responses=answers())
async def regenerate_reply(
    user_id: UserId,
    conversation_id: UUID,
    *,
    key: IdempotencyKey,
    chat: Chat,
    limits: RequestLimits,
    request: Request,
    body: Annotated[RegenerateRequest, Body()] = RegenerateRequest(),  # noqa: B008 - frozen
) -> Response:
    """
    Have the last message answered once more.

    The new reply takes the place of the old one, which is kept (`?superseded=true` lists it). Where
    there is none, because the model failed, the old one stays.
    """
    asking = asking_of(request, body, key)
    admission = limits.for_turn(user_id)
    reading = await chat.regenerate(user_id, conversation_id, body, asking, admission)
    return await answer(request, asking, reading)
