"""Dependencies shared by several endpoints."""

from typing import Annotated

from fastapi import Security
from starlette.requests import HTTPConnection

from chassis.http.bearer import bearer
from user_service.models.sessions import MAX_IP_LENGTH, MAX_USER_AGENT_LENGTH
from user_service.services.sessions import Client, Identity

CurrentIdentity = Annotated[Identity, Security(bearer)]
"""The caller and the session of the access token in the request."""


def client_address(connection: HTTPConnection) -> str | None:
    """The client's IP address. With TRUSTED_PROXIES set, a middleware has already taken it from X-Forwarded-For."""
    return connection.client.host if connection.client else None


def client_of(connection: HTTPConnection) -> Client:
    """The address and the user agent of the client, as far as they fit into the columns of a session."""
    # Headers are Latin-1 and may contain control characters, which the service does not store.
    user_agent = "".join(filter(str.isprintable, connection.headers.get("user-agent", "")))
    ip = client_address(connection)
    return Client(ip and ip[:MAX_IP_LENGTH], user_agent[:MAX_USER_AGENT_LENGTH] or None)
