"""The vocabulary of the endpoints' signatures."""

from typing import Annotated

from fastapi import Depends, Request

from chassis.bearer import BearerToken
from user_service.models import User
from user_service.services import Accounts


async def _accounts(request: Request) -> Accounts:
    accounts: Accounts = request.app.state.accounts
    return accounts


AccountsService = Annotated[Accounts, Depends(_accounts)]


async def _current_user(request: Request, token: BearerToken, accounts: AccountsService) -> User:
    identity = await accounts.identify(token)
    request.state.user_id = identity.user.id
    return identity.user


CurrentUser = Annotated[User, Depends(_current_user)]
