"""The vocabulary of the endpoints' signatures."""

from typing import Annotated

from fastapi import Depends, Request

from chassis.bearer import BearerToken
from user_service.services.accounts import Accounts
from user_service.services.sessions import Identity, Sessions


async def _accounts(request: Request) -> Accounts:
    accounts: Accounts = request.app.state.accounts
    return accounts


async def _sessions(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


AccountsService = Annotated[Accounts, Depends(_accounts)]
SessionsService = Annotated[Sessions, Depends(_sessions)]


async def _caller(request: Request, token: BearerToken, sessions: SessionsService) -> Identity:
    identity = await sessions.identify(token)
    request.state.user_id = identity.user.id
    return identity


CurrentIdentity = Annotated[Identity, Depends(_caller)]
