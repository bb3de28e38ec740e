"""Token introspection of OAuth2 (RFC 7662), for gateways and libraries that speak it."""

import base64
import binascii
from typing import Annotated
from urllib.parse import unquote_plus

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBasic
from starlette.requests import HTTPConnection

from chassis.errors import READ_ERRORS, Invalid, InvalidToken
from chassis.http import bodies
from chassis.http.problems import documented
from chassis.http.routing import Router
from user_service import audit
from user_service.api import oauth2
from user_service.api.dependencies import client_address
from user_service.api.validation import MAX_BODY_BYTES
from user_service.errors import InvalidClient
from user_service.roles import roles_of
from user_service.schemas import (
    ACTIVE_TOKEN_EXAMPLE,
    INACTIVE_TOKEN_EXAMPLE,
    INTROSPECTION_EXAMPLE,
    ActiveToken,
    InactiveToken,
    Introspection,
)
from user_service.security.access_tokens import AUDIENCE, ISSUER
from user_service.security.service_keys import ServiceKeys
from user_service.services.sessions import Sessions

_EXAMPLES = {"active": {"value": ACTIVE_TOKEN_EXAMPLE}, "inactive": {"value": INACTIVE_TOKEN_EXAMPLE}}


class _Client(HTTPBasic):
    """A guard: raises InvalidClient if there are service keys and the request has none of them.

    The user name is that of the service and the password its key, as clients authenticate in OAuth2 (RFC 6749, section
    2.3.1).
    """

    def __init__(self, keys: ServiceKeys) -> None:
        super().__init__(
            scheme_name="Service", description="The name and the key of a service in `SERVICE_KEYS`.", auto_error=False
        )
        self._keys = keys
        self._refusals = audit.Flood("client refused")

    async def admit(self, connection: HTTPConnection) -> None:
        if not self._keys.required:
            return
        name, key = _basic_credentials(connection)
        # Clients should encode both like the values of a form, and many do not.
        known = {self._keys.name_of(key): name, self._keys.name_of(unquote_plus(key)): unquote_plus(name)}
        service = next((found for found, sent in known.items() if found is not None and found == sent), None)
        if service is None:
            self._refusals.log(client_address(connection))
            raise InvalidClient
        connection.state.asked_by = service

    async def __call__(self, request: Request) -> None:  # type: ignore[override]
        """Documents the header."""


def _basic_credentials(connection: HTTPConnection) -> tuple[str, str]:
    """The user name and the password of the request (RFC 7617), empty if there are none."""
    scheme, _, encoded = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return name, password


async def _read(request: Request) -> Introspection:
    return await oauth2.read_form(request, Introspection)


def router(sessions: Sessions, service_keys: ServiceKeys) -> Router:
    routes = Router(tags=["tokens"], body_limit=MAX_BODY_BYTES, route=oauth2.Route)

    @routes.post(
        "/introspect",
        summary="Introspect a token",
        response_description="The claims of the token; `active` tells the two models apart.",
        responses={
            200: {"content": {bodies.JSON: {"examples": _EXAMPLES}}},
            **documented(InvalidClient, *READ_ERRORS),
            **oauth2.documented("/introspect", Invalid),
        },
        dependencies=[Security(_Client(service_keys))],
        # The empty alternative is for a user service without keys.
        openapi_extra={
            "security": [{}],
            **oauth2.documented_body(bodies.FORM, Introspection, INTROSPECTION_EXAMPLE),
        },
    )
    async def introspect(form: Annotated[Introspection, Depends(_read)]) -> ActiveToken | InactiveToken:
        """Token introspection of OAuth2 (RFC 7662), for gateways and libraries. Services in the project call
        `/validate-token`.

        Like there, do not cache responses: a cache accepts revoked tokens. Refresh tokens are inactive, because they
        give access to nothing.
        """
        try:
            identity = await sessions.identify(form.token)
        except InvalidToken:
            return InactiveToken()
        return ActiveToken(
            sub=str(identity.user.id),
            username=identity.user.username,
            scope=" ".join(roles_of(identity.user)),
            iat=int(identity.issued_at.timestamp()),
            exp=int(identity.expires_at.timestamp()),
            iss=ISSUER,
            aud=AUDIENCE,
            sid=identity.session_id,
        )

    return routes
