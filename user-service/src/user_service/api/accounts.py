"""Endpoints for registration and the caller's own account."""

from typing import Any

from fastapi import Request, Response

from chassis.errors import READ_ERRORS, WRITE_ERRORS, InvalidToken, NotAuthenticated
from chassis.http.problems import documented, documented_headers
from chassis.http.routing import Router
from user_service.api.dependencies import CurrentIdentity, client_address
from user_service.errors import PASSWORD_ERRORS, LastAdmin, RegistrationClosed, UsernameTaken, WrongPassword
from user_service.schemas import PasswordChange, PasswordProof, Registration, UserRead
from user_service.services.accounts import Accounts


def router(accounts: Accounts) -> Router:
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
        return UserRead.model_validate(user)

    @routes.get(
        "/me",
        summary="Get your account",
        response_description="The account of the access token.",
        responses=documented(NotAuthenticated, InvalidToken, *READ_ERRORS),
    )
    async def me(caller: CurrentIdentity) -> UserRead:
        """Shows whether a token is valid, and to whom it belongs."""
        return UserRead.model_validate(caller.user)

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
        """Its data in other services is kept. Ids are never reused, so no later account inherits that data."""
        await accounts.delete(caller, proof.current_password, client_address(request))
        return Response(status_code=204)

    @routes.post("/me/delete", summary="Delete your account with a POST", **deletion)
    async def close_account(proof: PasswordProof, caller: CurrentIdentity, request: Request) -> Response:
        """The same as `DELETE /me`, for clients that can't send a body with DELETE."""
        return await delete_account(proof, caller, request)

    return routes
