"""Bearer tokens as they come in a request (RFC 6750): taken from the header, and looked at from outside only."""

import re
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import OAuth2PasswordBearer

from chassis.errors import InvalidToken, NotAuthenticated

LONGEST_TOKEN = 8 * 1024  # bytes; a longer one is nobody's, and need not be looked at
_CREDENTIALS = re.compile(r"bearer +([^ ]+) *", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


# Tells OpenAPI, and with it the Authorize button, where tokens are had; the header is read below.
_scheme = OAuth2PasswordBearer(
    tokenUrl="login",
    scheme_name="Login",
    description="The name and password of an account; leave the client's id and secret empty.",
    auto_error=False,
)


async def bearer_token(request: Request, _: Annotated[str | None, Security(_scheme)]) -> str:
    """The token of the request; raises NotAuthenticated without one, and InvalidToken where it cannot be one."""
    headers = request.headers.getlist("authorization")
    credentials = _CREDENTIALS.fullmatch(headers[0]) if len(headers) == 1 else None
    if credentials is None:
        raise NotAuthenticated
    token = credentials[1]
    if len(token) > LONGEST_TOKEN or not _TOKEN.fullmatch(token):
        raise InvalidToken
    return token


BearerToken = Annotated[str, Depends(bearer_token)]
