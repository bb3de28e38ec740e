"""Endpoints for logout and the caller's sessions."""

from typing import Annotated

from fastapi import Body, Request, Response

from chassis.errors import READ_ERRORS, WRITE_ERRORS, InvalidToken, NotAuthenticated
from chassis.http.bearer import bearer
from chassis.http.problems import documented
from chassis.http.routing import Router
from chassis.ids import RowId
from user_service.api.dependencies import CurrentIdentity, client_address
from user_service.api.refresh_cookie import RefreshCookie
from user_service.errors import SessionNotFound, SessionRevoked, TooManyAttempts
from user_service.schemas import LogOut, SessionRead
from user_service.services.sessions import Sessions

_PROTECTED_ERRORS = (NotAuthenticated, InvalidToken, *WRITE_ERRORS)


def router(sessions: Sessions, cookie: RefreshCookie | None = None) -> Router:
    """:param cookie: carries the refresh token; None for a refresh token in the body"""
    routes = Router(tags=["sessions"])

    def revoked_response(request: Request) -> Response:
        response = Response(status_code=204)
        if cookie:
            cookie.delete(request, response)
        return response

    @routes.post(
        "/logout",
        status_code=204,
        summary="Log out",
        response_description="The session is revoked.",
        responses=documented(SessionRevoked, TooManyAttempts, *_PROTECTED_ERRORS),
        openapi_extra={"security": [{"Login": []}, {}]},
    )
    async def log_out(body: Annotated[LogOut, Body(default_factory=LogOut)], request: Request) -> Response:
        """Revocation is immediate, in every service.

        Requires an access token, or a refresh token in the body. With a refresh token in the body, an access token is
        ignored, so a client whose access token has expired can still log out.
        """
        if body.refresh_token is None:
            await sessions.log_out(await bearer(request))
        else:
            request.state.user_id = await sessions.log_out_with(body.refresh_token, client_address(request))
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
