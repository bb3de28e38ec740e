"""Accounts: registration, and one's own."""

from fastapi import Request, Response

from chassis.errors import READ_ERRORS, WRITE_ERRORS, InvalidToken, NotAuthenticated
from chassis.problems import documented, documented_headers
from chassis.routing import Router
from user_service.api.dependencies import AccountsService, CurrentUser
from user_service.errors import UsernameTaken
from user_service.schemas import Registration, UserRead

router = Router(tags=["accounts"])


@router.post(
    "/register",
    status_code=201,
    summary="Open an account",
    response_description="The new account.",
    responses={
        201: {"headers": documented_headers({"Location": "The address of the account."})},
        **documented(UsernameTaken, *WRITE_ERRORS),
    },
)
async def register(
    registration: Registration, request: Request, response: Response, accounts: AccountsService
) -> UserRead:
    """Anyone may. The name has to be free, also in another case."""
    user = await accounts.register(registration.username, registration.password)
    request.state.user_id = user.id
    response.headers["Location"] = f"/users/{user.id}"
    return UserRead.model_validate(user)


@router.get(
    "/me",
    summary="Your own account",
    response_description="The account that the token belongs to.",
    responses=documented(NotAuthenticated, InvalidToken, *READ_ERRORS),
)
async def me(user: CurrentUser) -> UserRead:
    return UserRead.model_validate(user)
