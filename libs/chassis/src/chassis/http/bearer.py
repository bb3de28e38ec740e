"""Bearer tokens (RFC 6750): taken from the Authorization header, and checked for their form only."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from fastapi.openapi.models import OAuthFlowPassword, OAuthFlows
from fastapi.security import OAuth2
from starlette.requests import HTTPConnection

from chassis.errors import InvalidToken, NotAuthenticated

LONGEST_TOKEN = 8 * 1024  # bytes; a longer one is nobody's, and need not be looked at
_CREDENTIALS = re.compile(r"bearer +([^ ]+) *", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class Authenticated(Protocol):
    """What an application's `authenticate` returns: at least whose token it is."""

    @property
    def user_id(self) -> int: ...


Authenticate = Callable[[str], Awaitable[Authenticated]]
"""Finds out whose token it is; raises InvalidToken, or why that can't be known."""


async def no_authentication(_: str) -> Authenticated:
    """For an application without accounts: no token is valid."""
    raise InvalidToken


def bearer_token(request: HTTPConnection) -> str:
    """The token of the request; raises NotAuthenticated without one, and InvalidToken where it cannot be one."""
    headers = request.headers.getlist("authorization")
    credentials = _CREDENTIALS.fullmatch(headers[0]) if len(headers) == 1 else None
    if credentials is None:
        raise NotAuthenticated
    token = credentials[1]
    if len(token) > LONGEST_TOKEN or not _TOKEN.fullmatch(token):
        raise InvalidToken
    return token


class _BearerScheme(OAuth2):
    """A dependency that is the caller, as the application's `authenticate` returns it.

    It is the security scheme as well, which tells OpenAPI, and with it the Authorize button, where tokens are had: one
    dependency instead of three, each of which costs time in every request.
    """

    def __init__(self) -> None:
        super().__init__(
            flows=OAuthFlows(password=OAuthFlowPassword(tokenUrl="login", scopes={})),
            scheme_name="Login",
            description="The name and password of an account; leave the client's id and secret empty.",
            auto_error=False,
        )

    async def __call__(self, request: HTTPConnection) -> Any:
        """Raises NotAuthenticated, InvalidToken, or what else `authenticate` raises."""
        authenticate: Authenticate = request.app.authenticate
        caller = await authenticate(bearer_token(request))
        # For the log line of the request.
        request.state.user_id = caller.user_id
        return caller


bearer = _BearerScheme()
"""For `Annotated[Caller, Security(bearer)]`."""
