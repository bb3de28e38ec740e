"""OAuth2's endpoints: login, token refresh and token revocation."""

from typing import Annotated, Any

from fastapi import Depends, Request, Response

from chassis.errors import WRITE_ERRORS, Invalid
from chassis.http import bodies
from chassis.http.problems import documented, documented_headers
from chassis.http.routing import Router
from user_service.api import oauth2
from user_service.api.dependencies import client_address, client_of
from user_service.api.refresh_cookie import RefreshCookie
from user_service.errors import (
    PASSWORD_ERRORS,
    InvalidCredentials,
    OriginNotAllowed,
    SessionRevoked,
    TooManyAttempts,
    UnsupportedGrantType,
)
from user_service.schemas import (
    CREDENTIALS_EXAMPLE,
    REFRESH_EXAMPLE,
    REVOCATION_EXAMPLE,
    CookieTokenResponse,
    Credentials,
    RefreshRequest,
    Revocation,
    TokenResponse,
)
from user_service.services.sessions import Grant, Sessions

_NO_STORE: dict[int | str, dict[str, Any]] = {200: {"headers": documented_headers({"Cache-Control": "`no-store`."})}}


async def _token_of_body(request: Request) -> str:
    return (await oauth2.read_grant(request, {"refresh_token": RefreshRequest})).refresh_token


def router(sessions: Sessions, cookie: RefreshCookie | None = None) -> Router:
    """:param cookie: carries the refresh token; None for a refresh token in the body"""
    routes = Router(tags=["sessions"], route=oauth2.Route)
    grant_model = CookieTokenResponse if cookie else TokenResponse
    cookie_errors = (OriginNotAllowed,) if cookie else ()
    refresh_errors = () if cookie else (UnsupportedGrantType,)
    read_token = cookie.read if cookie else _token_of_body
    grants: dict[str, type[Credentials | RefreshRequest]] = {"password": Credentials}
    if not cookie:
        grants["refresh_token"] = RefreshRequest

    def grant_response(grant: Grant, request: Request, response: Response) -> TokenResponse:
        request.state.user_id = grant.user_id
        if cookie:
            cookie.set(request, response, grant.refresh_token, grant.session_lifetime)
        return TokenResponse(
            access_token=grant.access_token,
            expires_in=int(grant.lifetime.total_seconds()),
            refresh_token=grant.refresh_token,
        )

    async def read_grant(request: Request) -> Credentials | RefreshRequest:
        return await oauth2.read_grant(request, grants)

    @routes.post(
        "/login",
        summary="Log in",
        response_description="An access token and a refresh token.",
        responses={
            **_NO_STORE,
            **documented(InvalidCredentials, UnsupportedGrantType, *cookie_errors, *PASSWORD_ERRORS, *WRITE_ERRORS),
            **oauth2.documented("/login", Invalid, InvalidCredentials, UnsupportedGrantType),
        },
        openapi_extra=oauth2.documented_body(bodies.FORM, Credentials, CREDENTIALS_EXAMPLE),
        response_model=grant_model,
    )
    async def log_in(
        grant: Annotated[Credentials | RefreshRequest, Depends(read_grant)], request: Request, response: Response
    ) -> TokenResponse:
        """OAuth2 password grant; creates a session. Also accepts `application/json` with the same fields, and the
        refresh token grant, like `POST /refresh`.

        A wrong password, an unknown username and a disabled account get the same response.
        """
        if cookie:
            cookie.check_origin(request)
        client = client_of(request)
        if isinstance(grant, RefreshRequest):
            return grant_response(await sessions.refresh(grant.refresh_token, client), request, response)
        return grant_response(await sessions.log_in(grant.username, grant.password, client), request, response)

    @routes.post(
        "/refresh",
        summary="Refresh the tokens",
        response_description="A new access token and a new refresh token, which replaces the one sent.",
        responses={
            **_NO_STORE,
            **documented(SessionRevoked, *refresh_errors, *cookie_errors, TooManyAttempts, *WRITE_ERRORS),
            **oauth2.documented("/refresh", Invalid, SessionRevoked, *refresh_errors),
        },
        openapi_extra=None if cookie else oauth2.documented_body(bodies.JSON, RefreshRequest, REFRESH_EXAMPLE),
        response_model=grant_model,
    )
    async def refresh(
        token: Annotated[str, Depends(read_token)], request: Request, response: Response
    ) -> TokenResponse:
        """Each refresh token is valid once. Within 10 seconds of its use, the same token returns the same new refresh
        token, so a client can retry after a lost response and two tabs can refresh together. Later reuse, use of an
        older token, or reuse by a client with another address and another user agent indicates a stolen copy and
        revokes the session.

        Also accepts the form of an OAuth2 refresh token grant.
        """
        return grant_response(await sessions.refresh(token, client_of(request)), request, response)

    async def read_revocation(request: Request) -> Revocation:
        return await oauth2.read_form(request, Revocation)

    @routes.post(
        "/revoke",
        summary="Revoke a token",
        response_description="The session of the token is revoked, or there is none.",
        responses={**documented(TooManyAttempts, *WRITE_ERRORS), **oauth2.documented("/revoke", Invalid)},
        openapi_extra=oauth2.documented_body(bodies.FORM, Revocation, REVOCATION_EXAMPLE),
        response_class=Response,
    )
    async def revoke_token(revocation: Annotated[Revocation, Depends(read_revocation)], request: Request) -> Response:
        """Token revocation of OAuth2 (RFC 7009): revokes the session of a refresh token or access token, with all its
        tokens. The response is the same for a token without a session.
        """
        await sessions.revoke_token(revocation.token, client_address(request))
        return Response()

    return routes
