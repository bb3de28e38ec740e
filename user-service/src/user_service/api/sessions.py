"""Endpoints for login, token refresh, logout and the caller's sessions."""

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
from user_service.api.refresh_cookie import RefreshCookie
from user_service.errors import (
    PASSWORD_ERRORS,
    InvalidCredentials,
    OriginNotAllowed,
    SessionNotFound,
    SessionRevoked,
    TooManyAttempts,
)
from user_service.schemas import (
    CREDENTIALS_EXAMPLE,
    CookieTokenResponse,
    Credentials,
    RefreshRequest,
    SessionRead,
    TokenResponse,
)
from user_service.services.sessions import Grant, Sessions


async def _read_credentials(request: Request) -> Credentials:
    body = await bodies.read(request, request.app.max_body_bytes, accepted=(bodies.FORM, bodies.JSON))
    try:
        return Credentials.model_validate({} if body is bodies.EMPTY else body)
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        ) from None


# Only the form: client generators fail on operations with two content types.
_LOGIN_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {bodies.FORM: {"schema": Credentials.model_json_schema(), "example": CREDENTIALS_EXAMPLE}},
    }
}


_NO_STORE: dict[int | str, dict[str, Any]] = {200: {"headers": documented_headers({"Cache-Control": "`no-store`."})}}
_PROTECTED_ERRORS = (NotAuthenticated, InvalidToken, *WRITE_ERRORS)


async def _token_of_body(body: RefreshRequest) -> str:
    return body.refresh_token


def router(sessions: Sessions, cookie: RefreshCookie | None = None) -> Router:
    """:param cookie: carries the refresh token; None for a refresh token in the body"""
    routes = Router(tags=["sessions"])
    grant_model = CookieTokenResponse if cookie else TokenResponse
    cookie_errors = (OriginNotAllowed,) if cookie else ()
    read_token = cookie.read if cookie else _token_of_body

    def grant_response(grant: Grant, request: Request, response: Response) -> TokenResponse:
        request.state.user_id = grant.user_id
        response.headers["Cache-Control"] = "no-store"
        if cookie:
            cookie.set(request, response, grant.refresh_token)
        return TokenResponse(
            access_token=grant.access_token,
            expires_in=int(grant.lifetime.total_seconds()),
            refresh_token=grant.refresh_token,
        )

    def revoked_response(request: Request) -> Response:
        response = Response(status_code=204)
        if cookie:
            cookie.delete(request, response)
        return response

    @routes.post(
        "/login",
        summary="Log in",
        response_description="An access token and a refresh token.",
        responses={**_NO_STORE, **documented(InvalidCredentials, *cookie_errors, *PASSWORD_ERRORS, *WRITE_ERRORS)},
        openapi_extra=_LOGIN_BODY,
        response_model=grant_model,
    )
    async def log_in(
        credentials: Annotated[Credentials, Depends(_read_credentials)],
        request: Request,
        response: Response,
    ) -> TokenResponse:
        """OAuth2 password grant; creates a session. Also accepts `application/json` with the same fields.

        A wrong password, an unknown username and a disabled account get the same response.
        """
        if cookie:
            cookie.check_origin(request)
        # Headers are Latin-1 and may contain control characters, which the service does not store.
        user_agent = "".join(filter(str.isprintable, request.headers.get("user-agent", ""))) or None
        ip = client_address(request)
        grant = await sessions.log_in(credentials.username, credentials.password, user_agent, ip)
        return grant_response(grant, request, response)

    @routes.post(
        "/refresh",
        summary="Refresh the tokens",
        response_description="A new access token and a new refresh token, which replaces the one sent.",
        responses={**_NO_STORE, **documented(SessionRevoked, *cookie_errors, TooManyAttempts, *WRITE_ERRORS)},
        response_model=grant_model,
    )
    async def refresh(
        token: Annotated[str, Depends(read_token)], request: Request, response: Response
    ) -> TokenResponse:
        """Each refresh token is valid once. Within 10 seconds of its use, the same token returns the same new refresh
        token, so a client can retry after a lost response and two tabs can refresh together. Later reuse, or use of
        an older token, indicates a stolen copy and revokes the session.
        """
        return grant_response(await sessions.refresh(token, client_address(request)), request, response)

    @routes.post(
        "/logout",
        status_code=204,
        summary="Log out",
        response_description="The session is revoked.",
        responses=documented(*_PROTECTED_ERRORS),
    )
    async def log_out(caller: CurrentIdentity, request: Request) -> Response:
        """Revocation is immediate, in every service."""
        await sessions.log_out(caller)
        return revoked_response(request)

    @routes.post(
        "/logout-all",
        status_code=204,
        summary="Log out everywhere",
        response_description="All sessions of the account are revoked.",
        responses=documented(*_PROTECTED_ERRORS),
    )
    async def log_out_everywhere(caller: CurrentIdentity, request: Request) -> Response:
        """Includes the session of this request. Revocation is immediate, in every service."""
        await sessions.log_out_everywhere(caller)
        return revoked_response(request)

    @routes.get(
        "/sessions",
        summary="List your sessions",
        response_description="The active sessions, newest first.",
        responses=documented(NotAuthenticated, InvalidToken, *READ_ERRORS),
    )
    async def list_sessions(caller: CurrentIdentity) -> list[SessionRead]:
        """Each login creates a session, and each refresh extends it."""
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
        summary="Revoke one of your sessions",
        response_description="The session is revoked.",
        responses=documented(NotAuthenticated, InvalidToken, SessionNotFound, *WRITE_ERRORS),
    )
    async def end_session(session_id: RowId, caller: CurrentIdentity) -> Response:
        """Logs out another device, for example. Revocation is immediate, in every service."""
        await sessions.revoke(caller, session_id)
        return Response(status_code=204)

    return routes
