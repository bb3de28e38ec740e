"""Reads and decodes all request bodies: limited in size, with exact numbers and strict syntax.

`chassis.json_decoding` says why the standard decoder is not enough.
"""

from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from chassis.json_decoding import MAX_FIELDS, NotJson, decode_json, repeated_name

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"  # RFC 7396
FORM = "application/x-www-form-urlencoded"
PATCHES = (MERGE_PATCH, JSON)
"""Every PATCH is a merge patch: it sets the fields that are sent, and null clears a field."""


EMPTY = object()
"""No body, as opposed to the JSON value `null`."""


async def read(request: Request, limit: int, accepted: Iterable[str] = (JSON,)) -> Any:
    """The decoded body: JSON with non-integer numbers as Decimal, or the fields of a form as a dict.

    EMPTY if there is no body. Raises HTTPException with status 413 for more than `limit` bytes, 415 if the content type
    is not in `accepted` or the body is compressed, and 400 if the body is malformed.
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
    if text.startswith("\ufeff"):
        # RFC 8259, section 8.1, forbids it in JSON. In a form it would become a part of the first name.
        raise HTTPException(400, "The body begins with a byte order mark (U+FEFF). Send UTF-8 without one.")
    if media_type == FORM:
        return _decode_form(text)
    try:
        return decode_json(text)
    except NotJson as error:
        raise HTTPException(400, f"The body {error}.") from None


def content_type(request: Request) -> str:
    """The media type that the request states, in lower case and without parameters; empty if it states none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def media_type_of(request: Request, accepted: Iterable[str]) -> str:
    """The media type of the body.

    Raises HTTPException with status 415 if it is not in `accepted`, or if the body has a content coding.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        # RFC 9110, section 15.5.16: Accept-Encoding tells this 415 from the other one.
        detail = "The body must not be compressed: no Content-Encoding is supported."
        raise HTTPException(415, detail, {"Accept-Encoding": "identity"})
    media_type = content_type(request)
    if media_type not in accepted:
        raise HTTPException(415, f"The Content-Type must be {' or '.join(accepted)}.")
    return media_type


def require_size(request: Request, limit: int) -> None:
    """Raise HTTPException with status 413 if Content-Length is greater than `limit` bytes."""
    content_length = request.headers.get("content-length", "")
    if content_length.isdecimal() and int(content_length) > limit:
        raise _too_large(limit)


async def chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Stream the body. Raises HTTPException with status 413 after `limit` bytes, 400 if the client disconnects."""
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit:
                raise _too_large(limit)
            yield chunk
    except ClientDisconnect:
        # No client reads this response, but a disconnect must not be logged as an unexpected exception.
        raise HTTPException(400, "The body is incomplete.") from None


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"The body is larger than {limit} bytes.")


def _decode_form(text: str) -> dict[str, str]:
    if text.count("&") >= MAX_FIELDS:
        raise HTTPException(400, f"The form has more than {MAX_FIELDS} fields.")
    try:
        # As the URL standard parses it: a name without "=" has an empty value, and nothing between two "&" is no field.
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError:
        raise HTTPException(400, "The form has characters that are not UTF-8.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise HTTPException(400, f"The form has the field {repeated_name(pairs)} twice.")
    return fields
