"""What `main` wired, handed to the routes that ask for it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from parley.core.security.tokens import LocalTokens
from parley.services.accounts import AccountService
from parley.services.chat import ChatService
from parley.services.conversations import ConversationService
from parley.services.health import HealthService
from parley.services.turns import TurnService


@dataclass(frozen=True, kw_only=True)
class Services:
    accounts: AccountService
    chat: ChatService
    conversations: ConversationService
    health: HealthService
    tokens: LocalTokens
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


async def health(request: Request) -> HealthService:
    return (await services(request)).health


async def turns(request: Request) -> TurnService:
    return (await services(request)).turns


Accounts = Annotated[AccountService, Depends(accounts)]
Chat = Annotated[ChatService, Depends(chat)]
Conversations = Annotated[ConversationService, Depends(conversations)]
HealthChecks = Annotated[HealthService, Depends(health)]
Turns = Annotated[TurnService, Depends(turns)]
