"""Sessions: begun by logging in, kept going by refreshing, and ended."""

from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from chassis.errors import READ_ERRORS, WRITE_ERRORS, InvalidToken, NotAuthenticated
from chassis.http import bodies
from chassis.http.problems import documented, documented_headers
from chassis.http.routing import Router
from chassis.ids import RowId
from user_service.api.dependencies import CurrentIdentity, client_address
from user_service.errors import (
    PASSWORD_ERRORS,
    InvalidCredentials,
    SessionNotFound,
    SessionRevoked,
    TooManyAttempts,
)
from user_service.schemas import CREDENTIALS_EXAMPLE, Credentials, GrantRead, RefreshRequest, SessionRead
from user_service.services.sessions import Grant, Sessions


async def _credentials(request: Request) -> Credentials:
    body = await bodies.read(request, request.app.max_body_bytes, accepted=(bodies.FORM, bodies.JSON))
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


_NOT_STORED: dict[int | str, dict[str, Any]] = {200: {"headers": documented_headers({"Cache-Control": "`no-store`."})}}
_PROTECTED = (NotAuthenticated, InvalidToken, *WRITE_ERRORS)


def _granted(grant: Grant, request: Request, response: Response) -> GrantRead:
    request.state.user_id = grant.user_id
    response.headers["Cache-Control"] = "no-store"
    return GrantRead(
        access_token=grant.access_token,
        expires_in=int(grant.lifetime.total_seconds()),
        refresh_token=grant.refresh_token,
    )


def router(sessions: Sessions) -> Router:
    routes = Router(tags=["sessions"])

    @routes.post(
        "/login",
        summary="Log in",
        response_description="An access token, and a refresh token that gets the next one.",
        responses={**_NOT_STORED, **documented(InvalidCredentials, *PASSWORD_ERRORS, *WRITE_ERRORS)},
        openapi_extra=_LOGIN_BODY,
    )
    async def log_in(
        credentials: Annotated[Credentials, Depends(_credentials)],
        request: Request,
        response: Response,
    ) -> GrantRead:
        """OAuth2's password grant: a form, or the same fields as JSON. It opens a session.

        The answer to a wrong password, an unknown name and a disabled account is one and the same.
        """
        # A header is Latin-1, and may hold what no text of ours does.
        user_agent = "".join(filter(str.isprintable, request.headers.get("user-agent", ""))) or None
        ip = client_address(request)
        grant = await sessions.log_in(credentials.username, credentials.password, user_agent, ip)
        return _granted(grant, request, response)

    @routes.post(
        "/refresh",
        summary="Get the next access token",
        response_description="Both tokens anew; the refresh token that was sent is used up.",
        responses={**_NOT_STORED, **documented(SessionRevoked, TooManyAttempts, *WRITE_ERRORS)},
    )
    async def refresh(body: RefreshRequest, request: Request, response: Response) -> GrantRead:
        """A refresh token is used once. Sent again within 10 seconds it gets the same successor, for an answer that was
        lost or a second tab. Later, or when it is an older one, somebody has a copy of it: the session is over.
        """
        return _granted(await sessions.refresh(body.refresh_token, client_address(request)), request, response)

    @routes.post(
        "/logout",
        status_code=204,
        summary="Log out",
        response_description="The session of this token is over.",
        responses=documented(*_PROTECTED),
    )
    async def log_out(caller: CurrentIdentity) -> Response:
        """From this moment on no service accepts an access token of the session."""
        await sessions.log_out(caller)
        return Response(status_code=204)

    @routes.post(
        "/logout-all",
        status_code=204,
        summary="Log out everywhere",
        response_description="All sessions of the account are over.",
        responses=documented(*_PROTECTED),
    )
    async def log_out_everywhere(caller: CurrentIdentity) -> Response:
        await sessions.log_out_everywhere(caller)
        return Response(status_code=204)

    @routes.get(
        "/sessions",
        summary="List your sessions",
        response_description="The sessions that go on, the newest first.",
        responses=documented(NotAuthenticated, InvalidToken, *READ_ERRORS),
    )
    async def list_sessions(caller: CurrentIdentity) -> list[SessionRead]:
        return [
            SessionRead(
                id=session.id,
                created_at=session.created_at,
                last_used_at=session.last_used_at,
                expires_at=session.expires_at,
                user_agent=session.user_agent,
                ip=session.ip,
                current=session.id == caller.session_id,
            )
            for session in await sessions.list(caller)
        ]

    @routes.delete(
        "/sessions/{session_id}",
        status_code=204,
        summary="End one of your sessions",
        response_description="It is over.",
        responses=documented(NotAuthenticated, InvalidToken, SessionNotFound, *WRITE_ERRORS),
    )
    async def end_session(session_id: RowId, caller: CurrentIdentity) -> Response:
        await sessions.revoke(caller, session_id)
        return Response(status_code=204)

    return routes
