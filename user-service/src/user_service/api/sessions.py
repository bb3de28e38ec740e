"""Endpoints for logout and the caller's sessions."""

from typing import Annotated

from fastapi import Body, Query, Request, Response
from pydantic import Field

from chassis.errors import READ_ERRORS, WRITE_ERRORS, InvalidToken, NotAuthenticated
from chassis.http.bearer import bearer
from chassis.http.paging import IdCursor, Limit, link_header, read_cursor, write_cursor
from chassis.http.problems import documented, documented_headers
from chassis.http.query_parameters import QueryParameters
from chassis.http.routing import Router
from chassis.ids import RowId
from user_service.api.dependencies import CurrentIdentity, client_address
from user_service.api.refresh_cookie import RefreshCookie
from user_service.errors import SessionNotFound, SessionRevoked, TooManyAttempts
from user_service.models import Session
from user_service.schemas import LogOut, SessionRead
from user_service.services.session_pages import SessionPage
from user_service.services.sessions import Identity, Sessions

_PROTECTED_ERRORS = (NotAuthenticated, InvalidToken, *WRITE_ERRORS)


NEXT_PAGE = documented_headers({"Link": 'The next page, as `rel="next"`; absent on the last page.'})


class SessionQuery(QueryParameters):
    limit: Limit = Field(default=100, description="Maximum number of sessions in the response.")
    cursor: IdCursor | None = None

    @property
    def before(self) -> int | None:
        """The position of the page; None for the first one."""
        return read_cursor(self.cursor) if self.cursor else None


def list_page(
    page: SessionPage, caller: Identity, query: SessionQuery, response: Response, path: str
) -> list[SessionRead]:
    """The body of a list of sessions; sets its `Link` header."""
    if page.following is not None:
        parameters = {"limit": query.limit, "cursor": write_cursor(page.following)}
        response.headers["Link"] = link_header(path, next=parameters)
    return [read_session(session, caller) for session in page.sessions]


def read_session(session: Session, caller: Identity) -> SessionRead:
    return SessionRead(
        id=session.id,
        created_at=session.created_at,
        last_used_at=session.last_used_at,
        expires_at=session.expires_at,
        user_agent=session.user_agent,
        ip=session.ip,
        current=session.id == caller.session_id,
    )


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
        response_description="A page of the active sessions: the current one, then the others, newest first.",
        responses={200: {"headers": NEXT_PAGE}, **documented(NotAuthenticated, InvalidToken, *READ_ERRORS)},
    )
    async def list_sessions(
        query: Annotated[SessionQuery, Query()], caller: CurrentIdentity, response: Response
    ) -> list[SessionRead]:
        """Each login creates a session, and each refresh extends it. The first page begins with the current session.

        Follow the `Link` header to the next page.
        """
        page = await sessions.page(caller, query.before, query.limit)
        return list_page(page, caller, query, response, "/sessions")

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
