"""Bearer tokens (RFC 6750): read from the Authorization header and checked for well-formedness only."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from fastapi.openapi.models import OAuthFlowPassword, OAuthFlows
from fastapi.security import OAuth2
from starlette.requests import HTTPConnection

from chassis.errors import InvalidToken, NotAuthenticated
from chassis.text import MAX_TOKEN_LENGTH

_CREDENTIALS = re.compile(r"bearer +([^ ]+) *", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class Authenticated(Protocol):
    """What an application's `authenticate` returns: the caller, who has at least a user id."""

    @property
    def user_id(self) -> int: ...


Authenticate = Callable[[str], Awaitable[Authenticated]]
"""Identifies the caller by the token; raises InvalidToken, or another error if it can't."""


async def no_authentication(_: str) -> Authenticated:
    """For applications without protected operations; a mistake must not look like an invalid token."""
    raise RuntimeError("a protected operation needs application.build(..., authenticate=...)")


def bearer_token(request: HTTPConnection) -> str:
    """The token of the request. Raises NotAuthenticated if there is none, InvalidToken if it is malformed."""
    headers = request.headers.getlist("authorization")
    credentials = _CREDENTIALS.fullmatch(headers[0]) if len(headers) == 1 else None
    if credentials is None:
        raise NotAuthenticated
    token = credentials[1]
    if len(token) > MAX_TOKEN_LENGTH or not _TOKEN.fullmatch(token):
        raise InvalidToken
    return token


class _BearerScheme(OAuth2):
    """A dependency that returns the caller, as the application's `authenticate` returns it.

    It is a guard (`chassis.http.routing`): the token is checked before the body is read. It is also the security
    scheme, which gives OpenAPI and the Authorize button the token URL. One dependency replaces three, each of which
    would cost time in every request.
    """

    def __init__(self) -> None:
        super().__init__(
            flows=OAuthFlows(password=OAuthFlowPassword(tokenUrl="login", scopes={})),
            scheme_name="Login",
            description="Username and password of an account. Leave client_id and client_secret empty.",
            auto_error=False,
        )

    async def admit(self, connection: HTTPConnection) -> None:
        """Raise NotAuthenticated, InvalidToken, or any other error of `authenticate`."""
        authenticate: Authenticate = connection.app.authenticate
        caller = await authenticate(bearer_token(connection))
        connection.state.caller = caller
        # For the request log.
        connection.state.user_id = caller.user_id

    async def __call__(self, request: HTTPConnection) -> Any:
        if not hasattr(request.state, "caller"):
            await self.admit(request)
        return request.state.caller


bearer = _BearerScheme()
"""For `Annotated[Caller, Security(bearer)]`."""
