"""Authentication of requests to other applications, for a gateway that asks before it forwards each of them."""

from typing import Any

from fastapi import Response

from chassis.errors import READ_ERRORS, InvalidToken, NotAuthenticated
from chassis.http.problems import documented, documented_headers
from chassis.http.routing import AnyQuery, Router
from user_service.api.dependencies import CurrentIdentity
from user_service.roles import roles_of

PATH = "/forward-auth"
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_HEADERS = {
    "X-Auth-User-Id": "The id of the account.",
    "X-Auth-Username": "Its username.",
    "X-Auth-Roles": "Its roles, separated by commas.",
    "X-Auth-Session-Id": "The id of the session.",
    "Cache-Control": "`no-store`.",
}


def router() -> Router:
    routes = Router(tags=["tokens"])

    async def authenticate(identity: CurrentIdentity, _: AnyQuery) -> Response:
        """For gateways, which ask before they forward a request to an application, and pass the headers of this
        response on with it. The gateway must remove such headers from what clients send; see docs/gateways.md.

        Accepts every method, every path below and every query, because some gateways ask with those of the request. The
        body is not read. The response is never a 204, which some gateways would send to the client.
        """
        values = (
            identity.user_id,
            identity.user.username,
            ",".join(roles_of(identity.user)),
            identity.session_id,
            "no-store",
        )
        return Response(headers=dict(zip(_HEADERS, map(str, values), strict=True)))

    options: dict[str, Any] = {
        "summary": "Authenticate a request to another application",
        "response_description": "The request may pass. The response is empty; its headers tell who the caller is.",
        "responses": {
            200: {"headers": documented_headers(_HEADERS)},
            **documented(NotAuthenticated, InvalidToken, *READ_ERRORS),
        },
        "response_class": Response,
    }
    routes.add_api_route(PATH, authenticate, methods=["GET"], **options)
    routes.add_api_route(PATH, authenticate, methods=_METHODS[1:], include_in_schema=False)
    routes.add_api_route(PATH + "/{rest:path}", authenticate, methods=_METHODS, include_in_schema=False)
    return routes
