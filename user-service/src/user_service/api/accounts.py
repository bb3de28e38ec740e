"""Endpoints for registration and the caller's own account."""

from datetime import UTC, datetime
from typing import Any

from fastapi import Request, Response

from chassis.errors import READ_ERRORS, WRITE_ERRORS, InvalidToken, NotAuthenticated
from chassis.http.problems import documented, documented_headers
from chassis.http.routing import Router
from user_service.api.dependencies import CurrentIdentity, client_address
from user_service.api.sessions import read_session
from user_service.errors import PASSWORD_ERRORS, LastAdmin, RegistrationClosed, UsernameTaken, WrongPassword
from user_service.schemas import (
    AccountExport,
    NetworkExport,
    PasswordChange,
    PasswordProof,
    Registration,
    SessionExport,
    UserRead,
)
from user_service.services.accounts import Accounts
from user_service.services.sessions import Sessions


def router(accounts: Accounts, sessions: Sessions) -> Router:
    routes = Router(tags=["accounts"])

    @routes.post(
        "/register",
        status_code=201,
        summary="Create an account",
        response_description="The new account.",
        responses={
            201: {"headers": documented_headers({"Location": "The URL of the account."})},
            **documented(RegistrationClosed, UsernameTaken, *PASSWORD_ERRORS, *WRITE_ERRORS),
        },
    )
    async def register(registration: Registration, request: Request, response: Response) -> UserRead:
        """Public, unless `REGISTRATION` is closed. Usernames are case-insensitive, and some are reserved."""
        user = await accounts.register(registration, client_address(request))
        request.state.user_id = user.id
        response.headers["Location"] = f"/users/{user.id}"
        return UserRead.of(user)

    @routes.get(
        "/me",
        summary="Get your account",
        response_description="The account of the access token.",
        responses=documented(NotAuthenticated, InvalidToken, *READ_ERRORS),
    )
    async def me(caller: CurrentIdentity) -> UserRead:
        """Shows whether a token is valid, and to whom it belongs."""
        return UserRead.of(caller.user)

    @routes.get(
        "/me/export",
        summary="Export your data",
        response_description="The account and its active sessions.",
        responses={
            200: {"headers": documented_headers({"Content-Disposition": "The suggested file name."})},
            **documented(NotAuthenticated, InvalidToken, *READ_ERRORS),
        },
    )
    async def export_account(caller: CurrentIdentity, request: Request, response: Response) -> AccountExport:
        """All that the service stores about your account, as a file, except the hashes of its password and tokens. A
        session has the time, the address and the user agent of a login. Of past sessions, only networks are kept.

        Other services export what they have. The product service: `GET /products/export` with your id as `owner_id`.
        """
        found, networks = await sessions.export(caller, client_address(request))
        response.headers["Content-Disposition"] = 'attachment; filename="account.json"'
        return AccountExport(
            exported_at=datetime.now(UTC),
            account=UserRead.of(caller.user),
            sessions=[
                SessionExport(
                    **dict(read_session(each, caller)),
                    refresh_user_agent=each.refresh_user_agent,
                    refresh_ip=each.refresh_ip,
                )
                for each in found
            ],
            networks=[NetworkExport.model_validate(each) for each in networks],
        )

    @routes.post(
        "/me/password",
        status_code=204,
        summary="Change your password",
        response_description="The password is changed; every other session is revoked.",
        responses=documented(NotAuthenticated, InvalidToken, WrongPassword, *PASSWORD_ERRORS, *WRITE_ERRORS),
    )
    async def change_password(change: PasswordChange, caller: CurrentIdentity, request: Request) -> Response:
        """Requires the current password. The session of this request remains valid."""
        await accounts.change_password(caller, change.current_password, change.new_password, client_address(request))
        return Response(status_code=204)

    deletion: dict[str, Any] = {
        "status_code": 204,
        "response_description": "The account is deleted, its sessions are revoked, and its username is available.",
        "responses": documented(
            NotAuthenticated, InvalidToken, WrongPassword, LastAdmin, *PASSWORD_ERRORS, *WRITE_ERRORS
        ),
    }

    @routes.delete("/me", summary="Delete your account", **deletion)
    async def delete_account(proof: PasswordProof, caller: CurrentIdentity, request: Request) -> Response:
        """Deletes the account, its password hash and its sessions, with their addresses and user agents.

        What other services have, such as products and their history, stays, with the account's id in it: others may
        depend on it. Delete it before, if you want it to go. Lines of the log with the id and addresses stay for as
        long as the operator keeps them. Ids are never reused, so no later account inherits any of this.
        """
        await accounts.delete(caller, proof.current_password, client_address(request))
        return Response(status_code=204)

    @routes.post("/me/delete", summary="Delete your account with a POST", **deletion)
    async def close_account(proof: PasswordProof, caller: CurrentIdentity, request: Request) -> Response:
        """The same as `DELETE /me`, for clients that can't send a body with DELETE."""
        return await delete_account(proof, caller, request)

    return routes
