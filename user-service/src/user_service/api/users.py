"""Endpoints for admins: all accounts, their passwords and their sessions."""

from typing import Annotated, Any, Literal

from fastapi import Query, Response
from pydantic import Field

from chassis.errors import READ_ERRORS, WRITE_ERRORS, DomainError, InvalidToken, NotAuthenticated
from chassis.http.bodies import JSON
from chassis.http.paging import IdCursor, Limit, link_header, read_cursor, write_cursor
from chassis.http.problems import documented, documented_headers
from chassis.http.query_parameters import Flag, QueryParameters
from chassis.http.routing import Router
from chassis.ids import RowId
from chassis.text import Line
from user_service.api.dependencies import CurrentIdentity
from user_service.api.sessions import NEXT_PAGE, SessionQuery, list_page
from user_service.errors import (
    AdminsOnly,
    LastAdmin,
    OwnAccount,
    PasswordsBusy,
    SessionNotFound,
    UsernameTaken,
    UserNotFound,
)
from user_service.schemas import CREDENTIALS_EXAMPLE, NewPassword, Registration, SessionRead, UserPatch, UserRead
from user_service.services.accounts import Accounts
from user_service.services.administration import AccountUpdate, Administration

_NEW_ACCOUNT_EXAMPLE = {"username": "grace", "password": CREDENTIALS_EXAMPLE["password"]}


class UserQuery(QueryParameters):
    limit: Limit = Field(default=20, description="Maximum number of accounts in the response.")
    cursor: IdCursor | None = None
    q: Annotated[Line, Field(min_length=1, max_length=50)] | None = Field(
        default=None, description="Part of the username, case-insensitive."
    )
    is_active: Flag | None = None
    role: Literal["user", "admin"] | None = None


def _documented(*errors: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    return documented(NotAuthenticated, InvalidToken, AdminsOnly, *errors)


def router(administration: Administration, accounts: Accounts) -> Router:
    routes = Router(prefix="/users", tags=["administration"])

    @routes.get(
        "",
        summary="List accounts",
        response_description="A page of accounts, ordered by id.",
        responses={
            200: {"headers": NEXT_PAGE},
            **_documented(*READ_ERRORS),
        },
    )
    async def list_users(
        query: Annotated[UserQuery, Query()],
        caller: CurrentIdentity,
        response: Response,
    ) -> list[UserRead]:
        """Follow the `Link` header to the next page."""
        after = read_cursor(query.cursor) if query.cursor else 0
        users, more = await administration.page(
            caller,
            after,
            query.limit,
            q=query.q,
            is_active=query.is_active,
            # Every account has the role "user", so role=user filters nothing.
            is_admin=True if query.role == "admin" else None,
        )
        if more:
            parameters = {**query.model_dump(exclude_none=True), "cursor": write_cursor(users[-1].id)}
            response.headers["Link"] = link_header("/users", next=parameters)
        return [UserRead.of(user) for user in users]

    @routes.post(
        "",
        status_code=201,
        summary="Create an account for another user",
        response_description="The new account.",
        responses={
            201: {"headers": documented_headers({"Location": "The URL of the account."})},
            **_documented(UsernameTaken, PasswordsBusy, *WRITE_ERRORS),
        },
        openapi_extra={"requestBody": {"content": {JSON: {"example": _NEW_ACCOUNT_EXAMPLE}}}},
    )
    async def create_user(registration: Registration, caller: CurrentIdentity, response: Response) -> UserRead:
        """Like `POST /register`, without rate limits and reserved usernames, and even while registration is closed."""
        user = await accounts.create_as_admin(caller, registration)
        response.headers["Location"] = f"/users/{user.id}"
        return UserRead.of(user)

    @routes.get(
        "/{user_id}",
        summary="Get an account",
        response_description="The account.",
        responses=_documented(UserNotFound, *READ_ERRORS),
    )
    async def show_user(user_id: RowId, caller: CurrentIdentity) -> UserRead:
        """For your own account, use `GET /me`."""
        return UserRead.of(await administration.get(caller, user_id))

    @routes.patch(
        "/{user_id}",
        summary="Update an account",
        response_description="The updated account.",
        responses=_documented(UserNotFound, UsernameTaken, LastAdmin, *WRITE_ERRORS),
    )
    async def change_user(user_id: RowId, patch: UserPatch, caller: CurrentIdentity) -> UserRead:
        """Updates only the fields sent. Disabling an account revokes its sessions.

        Also accepts `application/merge-patch+json` (RFC 7396).
        """
        update = AccountUpdate(
            username=patch.username if "username" in patch.model_fields_set else None,
            is_active=patch.is_active if "is_active" in patch.model_fields_set else None,
            is_admin="admin" in patch.roles if "roles" in patch.model_fields_set else None,
        )
        return UserRead.of(await administration.change(caller, user_id, update))

    @routes.delete(
        "/{user_id}",
        status_code=204,
        summary="Delete an account",
        response_description="The account is deleted, its sessions are revoked, and its username is available.",
        responses=_documented(OwnAccount, UserNotFound, LastAdmin, *WRITE_ERRORS),
    )
    async def delete_user(user_id: RowId, caller: CurrentIdentity) -> Response:
        """For your own account, use `DELETE /me`."""
        await administration.delete(caller, user_id)
        return Response(status_code=204)

    @routes.post(
        "/{user_id}/password",
        status_code=204,
        summary="Set an account's password",
        response_description="The password is changed; all sessions of the account are revoked.",
        responses=_documented(OwnAccount, UserNotFound, PasswordsBusy, *WRITE_ERRORS),
    )
    async def set_password(user_id: RowId, body: NewPassword, caller: CurrentIdentity) -> Response:
        """For your own account, use `POST /me/password`."""
        await accounts.set_password_as_admin(caller, user_id, body.new_password)
        return Response(status_code=204)

    @routes.get(
        "/{user_id}/sessions",
        summary="List an account's sessions",
        response_description="A page of the active sessions, newest first; your current one is before all others.",
        responses={200: {"headers": NEXT_PAGE}, **_documented(UserNotFound, *READ_ERRORS)},
    )
    async def list_user_sessions(
        user_id: RowId, query: Annotated[SessionQuery, Query()], caller: CurrentIdentity, response: Response
    ) -> list[SessionRead]:
        """Follow the `Link` header to the next page."""
        page = await administration.page_of_sessions(caller, user_id, query.before, query.limit)
        return list_page(page, caller, query, response, f"/users/{user_id}/sessions")

    @routes.delete(
        "/{user_id}/sessions",
        status_code=204,
        summary="Revoke all sessions of an account",
        response_description="All sessions of the account are revoked.",
        responses=_documented(UserNotFound, *WRITE_ERRORS),
    )
    async def end_user_sessions(user_id: RowId, caller: CurrentIdentity) -> Response:
        """Revocation is immediate, in every service. The account can log in again, unless it is disabled."""
        await administration.revoke_all_sessions(caller, user_id)
        return Response(status_code=204)

    @routes.delete(
        "/{user_id}/sessions/{session_id}",
        status_code=204,
        summary="Revoke a session of an account",
        response_description="The session is revoked.",
        responses=_documented(UserNotFound, SessionNotFound, *WRITE_ERRORS),
    )
    async def end_user_session(user_id: RowId, session_id: RowId, caller: CurrentIdentity) -> Response:
        """Revocation is immediate, in every service."""
        await administration.revoke_session(caller, user_id, session_id)
        return Response(status_code=204)

    return routes
