"""Token validation for other services."""

from typing import Annotated

from fastapi import Depends, Header
from starlette.requests import HTTPConnection

from chassis.errors import READ_ERRORS, InvalidToken
from chassis.http.bodies import JSON
from chassis.http.problems import documented
from chassis.http.routing import Router
from user_service import audit
from user_service.api.dependencies import client_address
from user_service.errors import InvalidServiceKey
from user_service.roles import roles_of
from user_service.schemas import (
    REFUSED_TOKEN_EXAMPLE,
    VALID_TOKEN_EXAMPLE,
    RefusedToken,
    TokenToValidate,
    ValidToken,
)
from user_service.security.service_keys import ServiceKeys
from user_service.services.sessions import Sessions

MAX_BODY_BYTES = 16 * 1024
_HEADER = "X-Service-Key"


class _ServiceKey:
    """A guard: raises InvalidServiceKey if there are keys and the request has none of them."""

    def __init__(self, keys: ServiceKeys) -> None:
        self._keys = keys
        self._refusals = audit.Flood("service key refused")

    async def admit(self, connection: HTTPConnection) -> None:
        if not self._keys.required:
            return
        name = self._keys.name_of(connection.headers.get(_HEADER, ""))
        if name is None:
            self._refusals.log(client_address(connection))
            raise InvalidServiceKey
        # The access log names the key, so an operator can see when an old key is no longer used.
        connection.state.asked_by = name

    async def __call__(
        self,
        sent: Annotated[
            str | None,
            Header(
                alias=_HEADER,
                description="The key of the calling service. Required if the user service has `SERVICE_KEYS`.",
            ),
        ] = None,
    ) -> None:
        """Documents the header."""


# Without explicit examples, the documentation pages show only the first of the two response models.
_EXAMPLES = {"valid": {"value": VALID_TOKEN_EXAMPLE}, "not valid": {"value": REFUSED_TOKEN_EXAMPLE}}


def router(sessions: Sessions, service_keys: ServiceKeys) -> Router:
    routes = Router(tags=["tokens"], body_limit=MAX_BODY_BYTES)

    @routes.post(
        "/validate-token",
        summary="Validate an access token",
        response_description="The result; `valid` tells the two models apart.",
        responses={200: {"content": {JSON: {"examples": _EXAMPLES}}}, **documented(InvalidServiceKey, *READ_ERRORS)},
        dependencies=[Depends(_ServiceKey(service_keys))],
    )
    async def validate_token(body: TokenToValidate) -> ValidToken | RefusedToken:
        """For other services, which call it on every protected request.

        Returns 200 for every token that is a string. Do not cache responses: a cache accepts revoked tokens.
        """
        try:
            identity = await sessions.identify(body.token)
        except InvalidToken as error:
            return RefusedToken(message=error.detail)
        return ValidToken(
            user_id=identity.user.id,
            username=identity.user.username,
            roles=roles_of(identity.user),
            session_id=identity.session_id,
            expires_at=identity.expires_at,
        )

    return routes
