"""The refresh token as a cookie that scripts can't read, for frontends that may not keep it themselves."""

import math
from collections.abc import Callable
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from chassis.http.middleware import is_same_origin
from user_service.errors import NoRefreshCookie, OriginNotAllowed

NAME = "refresh_token"
PATH = "/refresh"


class RefreshCookie:
    """Sent only to `POST /refresh`, over TLS (or to localhost), and from pages of the same site."""

    def __init__(self, allows_origin: Callable[[str], bool]) -> None:
        self._allows_origin = allows_origin

    def set(self, request: Request, response: Response, token: str, lifetime: timedelta) -> None:
        """:param lifetime: of the session"""
        self._set(request, response, token, math.ceil(lifetime.total_seconds()))

    def delete(self, request: Request, response: Response) -> None:
        self._set(request, response, "", 0)

    async def read(self, request: Request) -> str:
        """The token. Raises OriginNotAllowed, or NoRefreshCookie if there is none."""
        self.check_origin(request)
        token = request.cookies.get(NAME)
        if not token:
            raise NoRefreshCookie
        return token

    def check_origin(self, request: Request) -> None:
        """Raise OriginNotAllowed if a page of another origin sends the request.

        Browsers send the origin with every POST, and only browsers send cookies without their user's knowledge.
        SameSite alone would let in every page of the same site, such as a customer's subdomain.
        """
        origin = request.headers.get("origin")
        if origin is not None and not is_same_origin(request.headers) and not self._allows_origin(origin):
            raise OriginNotAllowed

    @staticmethod
    def _set(request: Request, response: Response, value: str, max_age: int) -> None:
        # Behind a proxy that adds a prefix, the browser sees the prefix.
        path = request.scope.get("root_path", "") + PATH
        response.set_cookie(NAME, value, max_age, path=path, secure=True, httponly=True, samesite="strict")
