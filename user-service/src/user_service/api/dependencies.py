"""The vocabulary of the endpoints' signatures."""

import hmac
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from chassis.http.bearer import BearerToken
from user_service.errors import InvalidServiceKey
from user_service.services.accounts import Accounts
from user_service.services.administration import Administration
from user_service.services.sessions import Identity, Sessions


async def _accounts(request: Request) -> Accounts:
    accounts: Accounts = request.app.state.services.accounts
    return accounts


async def _sessions(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.services.sessions
    return sessions


async def _administration(request: Request) -> Administration:
    administration: Administration = request.app.state.services.administration
    return administration


AccountsService = Annotated[Accounts, Depends(_accounts)]
AdministrationService = Annotated[Administration, Depends(_administration)]
SessionsService = Annotated[Sessions, Depends(_sessions)]


async def _caller(request: Request, token: BearerToken, sessions: SessionsService) -> Identity:
    identity = await sessions.identify(token)
    request.state.user_id = identity.user.id
    return identity


async def _client_address(request: Request) -> str | None:
    # What a proxy says has been looked at before, where TRUSTED_PROXIES says so.
    return request.client.host if request.client else None


_service_key = APIKeyHeader(
    name="X-Service-Key",
    scheme_name="Service key",
    description="The key of a service that asks about tokens; needed where SERVICE_KEYS is set.",
    auto_error=False,
)


async def _require_service_key(request: Request, key: Annotated[str | None, Security(_service_key)]) -> None:
    """Raises InvalidServiceKey where keys are configured and none of them was sent."""
    keys: dict[str, str] = request.app.state.service_keys
    if not keys:
        return
    given = (key or "").encode()
    # Every key is compared, and each in the same time, whatever is given.
    names = [name for name, known in keys.items() if hmac.compare_digest(known.encode(), given)]
    if not names:
        raise InvalidServiceKey
    # For the log: whose key it was, so that an old one is removed when nobody has it any more.
    request.state.asked_by = names[0]


ClientAddress = Annotated[str | None, Depends(_client_address)]
ServiceKey = Annotated[None, Depends(_require_service_key)]
CurrentIdentity = Annotated[Identity, Depends(_caller)]
