"""The seam: other services ask here what a token is worth."""

import hmac

from fastapi import Security
from fastapi.security import APIKeyHeader
from starlette.requests import HTTPConnection

from chassis.errors import READ_ERRORS, InvalidToken
from chassis.http.bodies import JSON
from chassis.http.problems import documented
from chassis.http.routing import Router
from user_service.errors import InvalidServiceKey
from user_service.schemas import (
    REFUSED_TOKEN_EXAMPLE,
    VALID_TOKEN_EXAMPLE,
    RefusedToken,
    TokenToValidate,
    ValidToken,
)
from user_service.services.sessions import Sessions

LARGEST_BODY = 16 * 1024  # bytes


class _ServiceKeyScheme(APIKeyHeader):
    """Raises InvalidServiceKey where keys are configured and none of them was sent."""

    def __init__(self, keys: dict[str, str]) -> None:
        super().__init__(
            name="X-Service-Key",
            scheme_name="Service key",
            description="The key of a service that asks about tokens; needed where SERVICE_KEYS is set.",
            auto_error=False,
        )
        self._keys = keys

    async def __call__(self, request: HTTPConnection) -> None:
        if not self._keys:
            return
        given = request.headers.get("X-Service-Key", "").encode()
        # Every key is compared, and each in the same time, whatever is given.
        names = [name for name, known in self._keys.items() if hmac.compare_digest(known.encode(), given)]
        if not names:
            raise InvalidServiceKey
        # For the log: whose key it was, so that an old one is removed when nobody has it any more.
        request.state.asked_by = names[0]


# Without these, the documentation pages show the first of the two shapes alone.
_EXAMPLES = {"valid": {"value": VALID_TOKEN_EXAMPLE}, "not valid": {"value": REFUSED_TOKEN_EXAMPLE}}


def router(sessions: Sessions, service_keys: dict[str, str]) -> Router:
    routes = Router(tags=["tokens"], body_limit=LARGEST_BODY)
    require_service_key = _ServiceKeyScheme(service_keys)

    @routes.post(
        "/validate-token",
        summary="Is this token good at this moment?",
        response_description="What the token is worth; `valid` says which of the two it is.",
        responses={200: {"content": {JSON: {"examples": _EXAMPLES}}}, **documented(InvalidServiceKey, *READ_ERRORS)},
        # The other choice beside the key, for it is needed only where SERVICE_KEYS is set.
        openapi_extra={"security": [{}]},
        dependencies=[Security(require_service_key)],
    )
    async def validate_token(body: TokenToValidate) -> ValidToken | RefusedToken:
        """For other services, on every protected request of theirs.

        200 for every token given as text. An answer holds for its moment only: a cache of them lets revoked tokens in.
        """
        try:
            identity = await sessions.identify(body.token)
        except InvalidToken as refusal:
            return RefusedToken(message=refusal.detail)
        return ValidToken(
            user_id=identity.user.id,
            username=identity.user.username,
            roles=identity.user.roles,
            session_id=identity.session_id,
            expires_at=identity.expires_at,
        )

    return routes
