"""The seam: other services ask here what a token is worth."""

from chassis.errors import READ_ERRORS, InvalidToken
from chassis.http.bodies import JSON
from chassis.http.problems import documented
from chassis.http.routing import Router
from user_service.api.dependencies import ServiceKey, SessionsService
from user_service.errors import InvalidServiceKey
from user_service.schemas import (
    REFUSED_TOKEN_EXAMPLE,
    VALID_TOKEN_EXAMPLE,
    RefusedToken,
    TokenToValidate,
    ValidToken,
)

LARGEST_BODY = 16 * 1024  # bytes

router = Router(tags=["tokens"], body_limit=LARGEST_BODY)

# Without these, the documentation pages show the first of the two shapes alone.
_EXAMPLES = {"valid": {"value": VALID_TOKEN_EXAMPLE}, "not valid": {"value": REFUSED_TOKEN_EXAMPLE}}


@router.post(
    "/validate-token",
    summary="Is this token good at this moment?",
    response_description="What the token is worth; `valid` says which of the two it is.",
    responses={200: {"content": {JSON: {"examples": _EXAMPLES}}}, **documented(InvalidServiceKey, *READ_ERRORS)},
    # The other choice beside the key, for it is needed only where SERVICE_KEYS is set.
    openapi_extra={"security": [{}]},
)
async def validate_token(_: ServiceKey, body: TokenToValidate, sessions: SessionsService) -> ValidToken | RefusedToken:
    """For other services, on every protected request of theirs.

    200 for every token given as text. An answer is true at its moment only: kept in a cache it lets revoked tokens in.
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
