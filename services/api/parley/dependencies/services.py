"""What `wiring` made, handed to the routes that ask for it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from parley.dependencies.cookies import CookieRules
from parley.services.accounts import AccountService
from parley.services.authentication import Authentication
from parley.services.chat import ChatService
from parley.services.conversations import ConversationService
from parley.services.files.service import FileService
from parley.services.health import HealthService
from parley.services.keys import KeyService
from parley.services.limits import LimitService
from parley.services.sessions import SessionService
from parley.services.shared import Shared
from parley.services.streams import StreamService
from parley.services.turns.cancels import CancelWatch
from parley.services.turns.relay import Relay
from parley.services.turns.service import TurnService


@dataclass(frozen=True, kw_only=True)
class Services:
    accounts: AccountService
    authentication: Authentication
    cancels: CancelWatch
    chat: ChatService
    conversations: ConversationService
    cookies: CookieRules | None
    files: FileService
    health: HealthService
    keys: KeyService
    relay: Relay
    sessions: SessionService
    limits: LimitService
    shared: Shared | None
    streams: StreamService
    turns: TurnService


async def services(request: Request) -> Services:
    wired: Services = request.app.state.services
    return wired


async def accounts(request: Request) -> AccountService:
    return (await services(request)).accounts


async def chat(request: Request) -> ChatService:
    return (await services(request)).chat


async def conversations(request: Request) -> ConversationService:
    return (await services(request)).conversations


async def files(request: Request) -> FileService:
    return (await services(request)).files


async def health(request: Request) -> HealthService:
    return (await services(request)).health


async def keys(request: Request) -> KeyService:
    return (await services(request)).keys


async def sessions(request: Request) -> SessionService:
    return (await services(request)).sessions


async def turns(request: Request) -> TurnService:
    return (await services(request)).turns


Accounts = Annotated[AccountService, Depends(accounts)]
Chat = Annotated[ChatService, Depends(chat)]
Conversations = Annotated[ConversationService, Depends(conversations)]
Files = Annotated[FileService, Depends(files)]
HealthChecks = Annotated[HealthService, Depends(health)]
Keys = Annotated[KeyService, Depends(keys)]
Sessions = Annotated[SessionService, Depends(sessions)]
Turns = Annotated[TurnService, Depends(turns)]
