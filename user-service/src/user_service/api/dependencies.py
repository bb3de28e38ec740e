"""Dependencies shared by several endpoints."""

from typing import Annotated

from fastapi import Security
from starlette.requests import HTTPConnection

from chassis.http.bearer import bearer
from user_service.services.sessions import Identity

CurrentIdentity = Annotated[Identity, Security(bearer)]
"""The caller and the session of the access token in the request."""


def client_address(connection: HTTPConnection) -> str | None:
    """The client's IP address. With TRUSTED_PROXIES set, a middleware has already taken it from X-Forwarded-For."""
    return connection.client.host if connection.client else None
