"""The contract of `POST /validate-token`: which responses of the user service count, and what they say.

Both sides have agreed on `contracts/validate-token.json`. Status, headers, size and body are checked strictly. A
response outside the contract says nothing about the token, so nothing is inferred from it.
"""

import json
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from auth_client.caller import Caller
from chassis.http.bodies import JSON
from chassis.http.middleware import REQUEST_ID_HEADER
from chassis.ids import LARGEST_ID

MAX_RESPONSE_BYTES = 16 * 1024


class UnexpectedResponse(Exception):
    """A response outside the contract. `reason` contains no part of the response, so that it can be logged."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class Response(Protocol):
    """The part of an HTTP client's response that is read here."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Case-insensitive."""

    def aiter_raw(self) -> AsyncIterator[bytes]:
        """The body as it arrives, without decompressing it."""


class _Verdict(BaseModel):
    """This side's copy of the fields that it reads. The response may have others, which are ignored."""

    model_config = ConfigDict(strict=True)

    valid: bool
    user_id: int | None = Field(default=None, ge=1, le=LARGEST_ID)
    username: str | None = Field(default=None, min_length=1)
    roles: list[str] | None = None


async def read_caller(response: Response, request_id: str | None) -> Caller | None:
    """Return the caller that the response names, or None if it rejects the token; raise UnexpectedResponse otherwise.

    :param request_id: the `X-Request-ID` of the request, if it had one
    """
    _check_head(response, request_id)
    return _parse(await _read_body(response), response.status_code)


def _check_head(response: Response, request_id: str | None) -> None:
    status, headers = response.status_code, response.headers
    if status != HTTPStatus.OK:
        raise UnexpectedResponse("unexpected status", status)
    echoed = headers.get(REQUEST_ID_HEADER)
    if request_id and echoed and request_id != echoed:
        raise UnexpectedResponse("answer to another request", status)
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnexpectedResponse("unexpected encoding", status)
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() != JSON:
        raise UnexpectedResponse("unexpected content type", status)


async def _read_body(response: Response) -> bytes:
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            raise UnexpectedResponse("too large", response.status_code)
    return body


def _parse(body: bytes, status: int) -> Caller | None:
    try:
        # Decoded explicitly: json.loads would also accept bytes in UTF-16.
        content = json.loads(body.decode(), object_pairs_hook=_reject_duplicate_keys)
        verdict = _Verdict.model_validate(content)
    except (ValueError, RecursionError):
        raise UnexpectedResponse("unexpected content", status) from None
    user_id, username, roles = verdict.user_id, verdict.username, verdict.roles
    if verdict.valid and user_id is not None and username is not None and roles is not None:
        return Caller(user_id, username, tuple(roles))
    # A response that rejects the token and says whose it is contradicts itself.
    if verdict.valid or (user_id, username, roles) != (None, None, None):
        raise UnexpectedResponse("unexpected content", status)
    return None


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    decoded = dict(pairs)
    if len(decoded) != len(pairs):
        raise ValueError("duplicate key")
    return decoded
