"""Parameters shared by several endpoints."""

from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from starlette.requests import HTTPConnection

from auth_client.caller import Caller
from auth_client.dependency import CurrentCaller
from chassis.http.bearer import bearer
from chassis.text import matching
from product_service.domain.idempotency import MAX_KEY_LENGTH
from product_service.services.write_limit import WriteLimit


class _Writer:
    """A guard: counts a request that writes, before its body is read; raises TooManyWrites."""

    def __init__(self, write_limit: WriteLimit) -> None:
        self._write_limit = write_limit

    async def admit(self, connection: HTTPConnection) -> None:
        await self._write_limit.count(await bearer(connection))

    async def __call__(self, caller: CurrentCaller) -> Caller:
        return caller


def writer(write_limit: WriteLimit) -> Any:
    """For `Annotated[Caller, writer(...)]`: the caller, whose request counts as a write."""
    return Depends(_Writer(write_limit))


async def _idempotency_key(
    request: Request,
    key: Annotated[
        Annotated[
            str,
            Field(min_length=1, max_length=MAX_KEY_LENGTH),
            *matching("^[!-~]+$", "A key has only printable ASCII characters, and no spaces"),
        ]
        | None,
        Header(
            alias="Idempotency-Key",
            description="A random string that the client generates. The service executes the request once, and returns "
            "the same response when it is repeated with the same key within 24 hours.",
        ),
    ] = None,
) -> str | None:
    if len(request.headers.getlist("idempotency-key")) > 1:
        error = {"type": "value_error", "loc": ("header", "Idempotency-Key"), "msg": "Send only one key"}
        raise RequestValidationError([error])
    return key


IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]
