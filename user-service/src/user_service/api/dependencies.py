"""What several endpoints have in common."""

from typing import Annotated

from fastapi import Security
from starlette.requests import HTTPConnection

from chassis.http.bearer import bearer
from user_service.services.sessions import Identity

CurrentIdentity = Annotated[Identity, Security(bearer)]
"""The caller, in the session of the token that was sent."""


def client_address(connection: HTTPConnection) -> str | None:
    """The client's address; where TRUSTED_PROXIES are set, a middleware has taken it from X-Forwarded-For."""
    return connection.client.host if connection.client else None
