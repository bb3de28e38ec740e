"""Logging in."""

from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from chassis import bodies
from chassis.errors import READ_ERRORS
from chassis.problems import documented, documented_headers
from chassis.routing import Router
from user_service.api.dependencies import AccountsService
from user_service.errors import InvalidCredentials
from user_service.schemas import CREDENTIALS_EXAMPLE, AccessTokenRead, Credentials

router = Router(tags=["tokens"])


async def _credentials(request: Request) -> Credentials:
    body = await bodies.read(request, request.app.state.max_body_bytes, accepted=(bodies.FORM, bodies.JSON))
    try:
        return Credentials.model_validate({} if body is bodies.EMPTY else body)
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        ) from None


_CREDENTIALS_SCHEMA = Credentials.model_json_schema()
_LOGIN_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            media_type: {"schema": _CREDENTIALS_SCHEMA, "example": CREDENTIALS_EXAMPLE}
            for media_type in (bodies.FORM, bodies.JSON)
        },
    }
}


@router.post(
    "/login",
    summary="Log in",
    response_description="An access token.",
    responses={
        200: {"headers": documented_headers({"Cache-Control": "`no-store`."})},
        **documented(InvalidCredentials, *READ_ERRORS),
    },
    openapi_extra=_LOGIN_BODY,
)
async def log_in(
    credentials: Annotated[Credentials, Depends(_credentials)],
    request: Request,
    response: Response,
    accounts: AccountsService,
) -> AccessTokenRead:
    """OAuth2's password grant: a form, or the same fields as JSON.

    The answer to a wrong password, an unknown name and a disabled account is one and the same.
    """
    login = await accounts.log_in(credentials.username, credentials.password)
    request.state.user_id = login.user.id
    response.headers["Cache-Control"] = "no-store"
    return AccessTokenRead(access_token=login.access_token, expires_in=int(login.lifetime.total_seconds()))
