"""FastAPI dependencies for protected operations.

    @router.post("/reviews", responses=documented(*AUTHENTICATION_ERRORS, *WRITE_ERRORS))
    async def create_review(draft: ReviewCreate, caller: CurrentCaller) -> ReviewRead: ...

The application validates the tokens: it is built with `application.build(..., authenticate=auth_client.validate)`. The
dependency is also the security scheme of the OpenAPI document.
"""

from typing import Annotated

from fastapi import Security

from auth_client.caller import Caller
from auth_client.errors import AuthUnavailable
from chassis.errors import InvalidToken, NotAuthenticated
from chassis.http.bearer import bearer

CurrentCaller = Annotated[Caller, Security(bearer)]
"""A parameter of an operation: the caller."""

RequireCaller = Security(bearer)
"""For the `dependencies` of an operation or router that is protected, but doesn't look at who calls."""

AUTHENTICATION_ERRORS = (NotAuthenticated, InvalidToken, AuthUnavailable)
"""The errors that every protected operation documents."""
