"""Parameters that several endpoints have in common."""

from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field

from product_service.domain.idempotency import LONGEST_KEY


async def _idempotency_key(
    request: Request,
    key: Annotated[
        Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, pattern="^[!-~]+$")] | None,
        Header(
            alias="Idempotency-Key",
            description="A random text of yours; a request that is sent again with the same one gets the same answer, "
            "and is done once. Kept for 24 hours.",
        ),
    ] = None,
) -> str | None:
    if len(request.headers.getlist("idempotency-key")) > 1:
        mistake = {"type": "value_error", "loc": ("header", "Idempotency-Key"), "msg": "There is more than one key"}
        raise RequestValidationError([mistake])
    return key


IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]
