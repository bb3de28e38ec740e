"""Files that clients upload: as the body of a request, or in a form."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import PurePath

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import Request

from chassis.errors import FieldError, Invalid
from chassis.http import bodies
from product_service.files.formats import FORMATS, Format

FORM = "multipart/form-data"  # RFC 7578

_CSV, _NDJSON = FORMATS["csv"], FORMATS["ndjson"]
# Browsers name CSV after the program that opens it: with Excel installed, application/vnd.ms-excel.
_BY_MEDIA_TYPE = {
    _CSV.media_type: _CSV,
    _NDJSON.media_type: _NDJSON,
    **dict.fromkeys(("application/csv", "application/vnd.ms-excel", "text/tab-separated-values"), _CSV),
}
_BY_EXTENSION = {".csv": _CSV, ".tsv": _CSV, ".txt": _CSV, ".ndjson": _NDJSON, ".jsonl": _NDJSON}
_MAX_NAME_LENGTH = 100  # of a field, in a message
_CHARSETS = ("utf-8", "utf8", "us-ascii", "utf-16", "utf-16le", "utf-16be")
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]+)', re.IGNORECASE)


@dataclass(frozen=True)
class Upload:
    """A file whose content has not been read yet."""

    media_type: str
    boundary: str | None
    """What separates the parts of a form."""

    async def open(self, body: AsyncIterator[bytes]) -> tuple[Format, AsyncIterator[bytes]]:
        """The format and the content. Raises HTTPException (400 or 415), or Invalid if a form is not a single file."""
        if self.boundary is None:
            return _BY_MEDIA_TYPE[self.media_type], body
        parts = _parts(body, self.boundary)
        part = await anext(parts, None)
        if not isinstance(part, MultipartSegment):
            raise _only_a_file("")
        if part.filename is None:
            raise _only_a_file(f" {part.name[:_MAX_NAME_LENGTH]!r} is not a file: with curl, -F file=@NAME sends one.")
        file_format = _BY_MEDIA_TYPE.get(part.content_type or "")
        file_format = file_format or _BY_EXTENSION.get(PurePath(part.filename).suffix.lower())
        if file_format is None:
            raise HTTPException(415, "The file must be CSV or NDJSON, with a name that ends in .csv or .ndjson.")
        _require_charset(part.charset)
        return file_format, _content(parts)


def upload(request: Request, limit: int) -> Upload:
    """The uploaded file; raises HTTPException with status 400, 413 or 415 because of the headers of the request."""
    bodies.require_size(request, limit)
    media_type = bodies.media_type_of(request, (*_BY_MEDIA_TYPE, FORM))
    boundary = None
    if media_type == FORM:
        boundary = parse_options_header(request.headers["content-type"])[1].get("boundary")
        if not boundary:
            raise HTTPException(400, "The Content-Type has no boundary.")
    charset = _CHARSET.search(request.headers["content-type"])
    _require_charset(charset and charset[1])
    return Upload(media_type, boundary)


def _require_charset(charset: str | None) -> None:
    if charset and charset.lower() not in _CHARSETS:
        raise HTTPException(415, "The file must be encoded in UTF-8, or in UTF-16 with a byte order mark.")


async def _parts(body: AsyncIterator[bytes], boundary: str) -> AsyncIterator[MultipartSegment | bytes | None]:
    """For each part of a form: its head, its content in chunks, and None."""
    try:
        with PushMultipartParser(boundary) as parser:
            async for chunk in body:
                # An empty chunk would mean the end to the parser.
                for event in parser.parse(chunk) if chunk else ():
                    yield event
    except MultipartError:
        raise HTTPException(400, "The form is malformed.") from None


async def _content(parts: AsyncIterator[MultipartSegment | bytes | None]) -> AsyncIterator[bytes]:
    async for part in parts:
        if isinstance(part, MultipartSegment):
            raise _only_a_file(f" It also has {part.name[:_MAX_NAME_LENGTH]!r}.")
        if part:
            yield bytes(part)


def _only_a_file(found: str) -> Invalid:
    detail = f"The form must contain one file and nothing else. Options are query parameters.{found}"
    return Invalid([FieldError(None, detail)])
