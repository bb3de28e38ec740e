"""Request bodies, read and decoded in this one place: bounded in size, exact in numbers, strict in form.

The standard decoder would turn 19.990000000000000001 into 19.99, accept NaN, take the last of two equal keys, and
let a lone surrogate through that no database can store.
"""

from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from chassis.json_decoding import MOST_FIELDS, NotJson, decode_json

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"  # RFC 7396
FORM = "application/x-www-form-urlencoded"


EMPTY = object()
"""No body at all, which is not the same as the JSON `null`."""


async def read(request: Request, limit: int, accepted: Iterable[str] = (JSON,)) -> Any:
    """The decoded body: what the JSON says (numbers with a fraction as Decimal), or a form's fields as a dict.

    EMPTY where there is none. Raises HTTPException with status 413 over `limit` bytes, 415 where the content
    type is not in `accepted`, and 400 where the bytes are not what the content type says.
    """
    require_size(request, limit)
    raw = b"".join([chunk async for chunk in chunks(request, limit)])
    if not raw:
        return EMPTY
    media_type = media_type_of(request, accepted)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise HTTPException(400, "The body is not UTF-8.") from None
    if media_type == FORM:
        return _decode_form(text)
    try:
        return decode_json(text)
    except NotJson as error:
        raise HTTPException(400, f"The body {error}.") from None


def media_type_of(request: Request, accepted: Iterable[str]) -> str:
    """The media type of the body; raises HTTPException with status 415 where it is not in `accepted`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in accepted:
        raise HTTPException(415, f"The Content-Type has to be {' or '.join(accepted)}.")
    return media_type


def require_size(request: Request, limit: int) -> None:
    """Raise HTTPException with status 413 where the body is announced to be larger than `limit` bytes."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)


async def chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body as it comes; raises HTTPException with status 413 after `limit` bytes, 400 where it is broken off."""
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit:
                raise _too_large(limit)
            yield chunk
    except ClientDisconnect:
        # Nobody is there to read this, but a client that hangs up is no unexpected exception in our log.
        raise HTTPException(400, "The body was broken off.") from None


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"The body is larger than the {limit} bytes that this address accepts.")


def _decode_form(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise HTTPException(400, "The body is not a URL-encoded form in UTF-8.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise HTTPException(400, "The form has the same field twice.")
    return fields
