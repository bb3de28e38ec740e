"""Endpoints for admins: list, show and change accounts."""

from typing import Annotated, Any, Literal

from fastapi import Query, Response
from pydantic import Field

from chassis.errors import READ_ERRORS, WRITE_ERRORS, DomainError, InvalidToken, NotAuthenticated
from chassis.http.paging import IdCursor, Limit, link_header, read_cursor, write_cursor
from chassis.http.problems import documented
from chassis.http.routing import Flag, QueryParameters, Router
from chassis.ids import RowId
from chassis.text import Line
from user_service.api.dependencies import CurrentIdentity
from user_service.api.sessions import NEXT_PAGE
from user_service.errors import AdminsOnly, LastAdmin, UserNotFound
from user_service.schemas import UserPatch, UserRead
from user_service.services.administration import AccountUpdate, Administration


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


def router(administration: Administration) -> Router:
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
        return [UserRead.model_validate(user) for user in users]

    @routes.get(
        "/{user_id}",
        summary="Get an account",
        response_description="The account.",
        responses=_documented(UserNotFound, *READ_ERRORS),
    )
    async def show_user(user_id: RowId, caller: CurrentIdentity) -> UserRead:
        """For your own account, use `GET /me`."""
        return UserRead.model_validate(await administration.get(caller, user_id))

    @routes.patch(
        "/{user_id}",
        summary="Update an account",
        response_description="The updated account.",
        responses=_documented(UserNotFound, LastAdmin, *WRITE_ERRORS),
    )
    async def change_user(user_id: RowId, patch: UserPatch, caller: CurrentIdentity) -> UserRead:
        """Updates only the fields sent. Disabling an account revokes its sessions.

        Also accepts `application/merge-patch+json` (RFC 7396).
        """
        update = AccountUpdate(
            is_active=patch.is_active if "is_active" in patch.model_fields_set else None,
            is_admin="admin" in patch.roles if "roles" in patch.model_fields_set else None,
        )
        return UserRead.model_validate(await administration.change(caller, user_id, update))

    return routes
