"""The caller of a protected operation, as a FastAPI dependency."""

from typing import Annotated

from fastapi import Security

from auth_client.caller import Caller
from auth_client.errors import AuthUnavailable
from chassis.errors import InvalidToken, NotAuthenticated
from chassis.http.bearer import bearer

CurrentCaller = Annotated[Caller, Security(bearer)]
RequireCaller = Security(bearer)
AUTHENTICATION_ERRORS = (NotAuthenticated, InvalidToken, AuthUnavailable)
